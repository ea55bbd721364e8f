//! `rbuild images`

use clap::Args;

use super::local;
use crate::cli::Failure;
use crate::cli::args::Global;
use crate::cli::error::print;
use crate::cli::progress::bytes;

/// List the images in the local store
///
/// SIZE is what the image's own blobs take up compressed; images share the layers they have in common.
#[derive(Debug, Args)]
pub(crate) struct ImagesArgs {
    /// Print only the digests
    #[arg(short, long)]
    quiet: bool,
    /// Print whole digests
    #[arg(long)]
    no_trunc: bool,
}

/// Prints the table.
pub(crate) fn run(global: &Global, args: &ImagesArgs) -> Result<(), Failure> {
    let store = local::open_store(global)?;
    let mut rows = Vec::new();
    for (reference, target) in store.tags()? {
        let digest = if args.no_trunc { target.digest.to_string() } else { target.digest.short() };
        if args.quiet {
            rows.push(vec![digest]);
            continue;
        }
        let tag = reference.tag().unwrap_or("<none>").to_owned();
        let full = reference.to_string();
        let name = full.strip_suffix(&format!(":{tag}")).unwrap_or(&full).to_owned();
        // One image that cannot be read must not hide the others.
        let (created, size) = match local::describe(&store, target) {
            Ok(image) => {
                let size =
                    image.manifest.config.size + image.manifest.layers.iter().map(|l| l.size).sum::<u64>();
                (local::age(image.config.created.as_deref()), bytes(size))
            }
            Err(_) => ("unreadable".to_owned(), "-".to_owned()),
        };
        rows.push(vec![name, tag, digest, created, size]);
    }
    rows.sort();
    if !args.quiet {
        rows.insert(0, ["NAME", "TAG", "DIGEST", "CREATED", "SIZE"].map(str::to_owned).to_vec());
    }
    print(&table(&rows))
}

/// Columns padded to their widest cell, two blanks between them.
pub(super) fn table(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        rows.iter().filter_map(|r| r.get(column)).map(|c| c.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut out = String::new();
    for row in rows {
        let cells: Vec<String> =
            row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}")).collect();
        out.push_str(cells.join("  ").trim_end());
        out.push('\n');
    }
    out
}
