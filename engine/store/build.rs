//! Tells cargo that the migrations are part of this crate: the macro alone would not notice a new file.

fn main() {
    println!("cargo:rerun-if-changed=../../migrations");
}
