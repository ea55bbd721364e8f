#![allow(clippy::unwrap_used)]

use super::*;

fn source(text: &str) -> Arc<Source> {
    Arc::new(Source { name: "Dockerfile".to_owned(), text: text.to_owned() })
}

#[test]
fn smoke() {
    let parsed = parse(&source(
        "ARG V=1\nFROM a:$V AS b\nRUN --mount=type=cache,target=/x echo \\\n  hi\nCOPY <<EOF /x\nbody\nEOF\n",
    ));
    let file = parsed.unwrap();
    assert_eq!(file.global_args.len(), 1);
    assert_eq!(file.stages[0].instructions.len(), 2);
}
