//! Text of pf.conf into drafts.
