//! The build context: which files of a folder belong to it.
