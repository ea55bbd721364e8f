//! Lists the images of a store, and the layers of each: `cargo run --example inspect -- STORE`.
#![allow(clippy::print_stdout)]

use rbuild::api::{Error, Images};

fn main() -> Result<(), Error> {
    let store = std::env::args_os().nth(1).unwrap_or_else(|| "/var/lib/rbuild".into());
    let images = Images::open(store)?;
    for (name, digest) in images.list()? {
        println!("{name} {digest}");
        for image in images.inspect(&name)?.platforms {
            println!("  {}", image.platform.as_deref().unwrap_or("no configuration here"));
            for layer in image.layers {
                println!("    {} {} bytes", layer.digest, layer.size_bytes);
            }
        }
    }
    Ok(())
}
