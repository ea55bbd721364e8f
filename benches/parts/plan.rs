//! Lowering syntax to a graph, a configuration and a history, bases resolved: a realistic file of 49 lines takes
//! 0.1 ms, one that needs a thousand stages 0.15 s.

use std::fmt::Write as _;
use std::sync::Arc;

use rbuild::dockerfile::syntax::Dockerfile;
use rbuild::image::PlatformImage;
use rbuild::oci::{Descriptor, DiffId, Digest, Layer, MediaType};
use rbuild::plan::graph::{BaseOp, BaseRequest};
use rbuild::plan::{ContextSource, Lowered, Options, bases, lower};

use super::{Work, parse};

/// A file of several stages, as one for many services is.
pub(crate) fn realistic() -> Work {
    let file = parse::file(include_str!("../../testdata/dockerfiles/monorepo/Dockerfile"));
    let crawler = ("crawler".to_owned(), ContextSource::Dir("/crawler".into()));
    planning(file, Options { contexts: vec![crawler], ..Options::default() })
}

/// A file whose last stage copies from all others.
pub(crate) fn many(stages: usize) -> Work {
    let mut text = String::from("ARG BASE=debian:bookworm\nFROM $BASE AS shared\n");
    (0..stages).for_each(|number| text.push_str(&parse::stage(number)));
    text.push_str("FROM scratch\n");
    (0..stages).for_each(|number| {
        let _ = writeln!(text, "COPY --from=component-{number} /out /out/{number}");
    });
    planning(parse::file(&text), Options::default())
}

fn planning(file: Dockerfile, options: Options) -> Work {
    let wanted = bases(&file, &options).expect("the file is right");
    let bases: Vec<_> = wanted.iter().map(resolve).collect();
    Box::new(move || {
        let lowered = lower(&file, &options, &bases).expect("the file is right");
        assert!(matches!(lowered, Lowered::Plan(_)), "the bases have no triggers");
    })
}

/// An image of one layer.
fn resolve(request: &BaseRequest) -> BaseOp {
    let config = r#"{"architecture":"amd64","os":"linux","config":{"Env":["PATH=/bin"],"Cmd":["sh"]},
                     "history":[{"created_by":"base layer"}]}"#;
    let descriptor = Descriptor::new(MediaType::MANIFEST, Digest::of(request.name.as_bytes()), 1);
    let layers = vec![Layer { descriptor, diff_id: DiffId(Digest::of(b"layer")) }];
    let image = PlatformImage::of_config(serde_json::from_str(config).expect("a configuration"));
    BaseOp { request: request.clone(), image: Arc::new(PlatformImage { layers, ..image }) }
}
