//! Nothing stands here: the tests are the binaries beside this folder.
