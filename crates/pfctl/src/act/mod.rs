//! The actions of the classic face: each turns flags into requests and answers into output.

pub mod flush;
pub mod kill;
pub mod load;
pub mod show;
pub mod table;
