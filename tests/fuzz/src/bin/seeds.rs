//! Writes the seeds of all targets to the corpus. Run it with `cargo run -p hark-fuzz`.

use std::{fs, io, path::Path};

fn main() -> io::Result<()> {
    for target in hark_fuzz::TARGETS {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(target.name);
        fs::create_dir_all(&folder)?;
        for (name, bytes) in (target.seeds)() {
            fs::write(folder.join(name), bytes)?;
        }
    }
    Ok(())
}
