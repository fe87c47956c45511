//! Writes what libFuzzer begins with: `seeds FOLDER` makes a folder in it for each target.

use std::path::Path;

fn main() -> std::io::Result<()> {
    let folder = std::env::args_os().nth(1).expect("usage: seeds FOLDER");
    for (target, seeds) in [
        ("dns", tests::dns::seeds()),
        ("csr", tests::csr::seeds()),
        ("tsig", tests::tsig::seeds()),
        ("haproxy", tests::haproxy::seeds()),
    ] {
        let folder = Path::new(&folder).join(target);
        std::fs::create_dir_all(&folder)?;
        for (number, seed) in seeds.iter().enumerate() {
            std::fs::write(folder.join(format!("seed-{number}")), seed)?;
        }
    }
    Ok(())
}
