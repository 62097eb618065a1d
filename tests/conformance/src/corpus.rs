//! Where the reference data is.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};

/// Folder of the reference data, seen from the repository.
const BESIDE: &str = "../shared/corpus";

/// The repository's root.
#[must_use]
pub fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// The folder of the reference data: `PF_CORPUS`, else `../shared/corpus` of the repository.
///
/// # Errors
/// A line that says that it is not there.
pub fn corpus() -> Result<PathBuf, String> {
    let folder = env::var_os("PF_CORPUS").map_or_else(|| repository().join(BESIDE), PathBuf::from);
    // Absolute, as cases change the working directory.
    fs::canonicalize(&folder)
        .map_err(|_| format!("no reference data: neither {BESIDE} nor PF_CORPUS is a folder"))
}
