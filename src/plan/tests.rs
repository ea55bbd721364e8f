//! Text in, listing out: a Dockerfile and options, against steps, configuration and history as text.
#![allow(clippy::unwrap_used)]

mod any_text;
mod dump;
mod faults;
mod files;
mod join;
mod metadata;
mod run;
mod stages;
mod variables;
mod warnings;

use std::sync::Arc;

use crate::dockerfile;
use crate::image::PlatformImage;
use crate::oci::{Descriptor, DiffId, Digest, ImageConfig, Layer, MediaType, Platform};
use crate::report::{Diagnostic, Severity, Source};

use super::graph::{BaseOp, BaseOrigin, BaseRequest, Plan};
use super::*;

/// A Dockerfile with options and a registry of bases.
struct Build {
    text: String,
    options: Options,
    /// Name as `debian:12`, configuration as JSON, and the number of layers.
    images: Vec<(String, String, usize)>,
}

/// A build of `text` for linux/amd64. The image `base` has a PATH, `sh` as its CMD and one layer.
fn build(text: &str) -> Build {
    let amd64 = Platform::new("linux", "amd64");
    let options = Options { platform: amd64.clone(), build_platform: amd64, ..Options::default() };
    let base = r#"{"Env":["PATH=/bin"],"Cmd":["sh"]}"#;
    Build { text: text.to_owned(), options, images: Vec::new() }.image("base", base)
}

impl Build {
    fn arg(mut self, name: &str, value: &str) -> Self {
        self.options.build_args.push((name.to_owned(), Some(value.to_owned())));
        self
    }

    fn target(mut self, target: &str) -> Self {
        self.options.target = Some(target.to_owned());
        self
    }

    fn platform(mut self, platform: &str) -> Self {
        self.options.platform = platform.parse().unwrap();
        self.options.explicit_platform = true;
        self
    }

    fn context(mut self, name: &str, source: ContextSource) -> Self {
        self.options.contexts.push((name.to_owned(), source));
        self
    }

    fn allow(mut self, entitlement: Entitlement) -> Self {
        self.options.entitlements.insert(entitlement);
        self
    }

    /// An image of one layer, for linux/amd64, with this `config`.
    fn image(mut self, name: &str, config: &str) -> Self {
        let whole = format!(
            r#"{{"architecture":"amd64","os":"linux","config":{config},"history":[{{"created_by":"base layer"}}]}}"#
        );
        self.images.push((name.to_owned(), whole, 1));
        self
    }

    fn file(&self) -> Result<Dockerfile, Vec<Diagnostic>> {
        dockerfile::parse(&Arc::new(Source { name: "Dockerfile".to_owned(), text: self.text.clone() }))
    }

    fn resolve(&self, request: &BaseRequest) -> BaseOp {
        let name = match &request.origin {
            BaseOrigin::Image(reference) => reference.to_string(),
            BaseOrigin::Layout { path, .. } => path.clone(),
            BaseOrigin::Linked { target, .. } => target.clone(),
            BaseOrigin::Engine(image) => image.name.clone(),
        };
        let name = name.strip_suffix(":latest").unwrap_or(&name);
        let found = self.images.iter().find(|(known, _, _)| known == name);
        let (_, config, layers) = found.unwrap_or_else(|| panic!("no image `{name}`"));
        let config: ImageConfig = serde_json::from_str(config).unwrap();
        let descriptor = Descriptor::new(MediaType::MANIFEST, Digest::of(name.as_bytes()), 1);
        let layer = |index: usize| Layer {
            descriptor: descriptor.clone(),
            diff_id: DiffId(Digest::of(format!("{name}{index}").as_bytes())),
        };
        let layers = (0..*layers).map(layer).collect();
        // What is called so is there for one platform only.
        let manifest = match name {
            "single" => descriptor,
            name => {
                let text = format!("{name} {}", request.platform);
                Descriptor::new(MediaType::MANIFEST, Digest::of(text.as_bytes()), 1)
            }
        };
        let image = PlatformImage { layers, manifest, ..PlatformImage::of_config(config) };
        BaseOp { request: request.clone(), image: Arc::new(image) }
    }

    /// The names that the first round asks for.
    fn bases(&self) -> Vec<String> {
        let requests = bases(&self.file().unwrap(), &self.options).unwrap();
        requests.into_iter().map(|request| format!("{} {}", request.name, request.platform)).collect()
    }

    fn try_plan(&self) -> Result<Plan, Vec<Diagnostic>> {
        let file = self.file()?;
        let mut wanted = bases(&file, &self.options)?;
        let mut resolved: Vec<BaseOp> = Vec::new();
        loop {
            resolved.extend(wanted.iter().map(|request| self.resolve(request)));
            match lower(&file, &self.options, &resolved)? {
                Lowered::Needs(more) => wanted = more,
                Lowered::Plan(plan) => return Ok(*plan),
            }
        }
    }

    #[track_caller]
    fn plan(&self) -> Plan {
        self.try_plan().unwrap_or_else(|faults| panic!("{}\n{}", self.text, messages(&faults)))
    }

    /// The faults, one on a line.
    #[track_caller]
    fn faults(&self) -> String {
        match self.try_plan() {
            Ok(_) => panic!("no fault in\n{}", self.text),
            Err(faults) => messages(&faults),
        }
    }
}

/// `3:13 message (help)` for each.
fn messages(diagnostics: &[Diagnostic]) -> String {
    let lines = diagnostics.iter().map(|diagnostic| {
        let place = match (&diagnostic.source, diagnostic.labels.first()) {
            (Some(source), Some(label)) => {
                let (line, column) = source.line_column(label.span.start);
                format!("{line}:{column} ")
            }
            _ => String::new(),
        };
        let code = diagnostic.code.map(|code| format!("{code}: ")).unwrap_or_default();
        let mark = if diagnostic.severity == Severity::Warning { "warning: " } else { "" };
        let more: Vec<&str> = diagnostic.notes.iter().chain(&diagnostic.help).map(String::as_str).collect();
        let more = if more.is_empty() { String::new() } else { format!(" ({})", more.join("; ")) };
        format!("{place}{mark}{code}{}{more}", diagnostic.message)
    });
    lines.collect::<Vec<_>>().join("\n")
}

/// Compares texts line by line, indentation of the expectation aside.
#[track_caller]
fn same(actual: &str, expected: &str) {
    let expected: Vec<&str> = expected.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    let actual_lines: Vec<&str> = actual.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    assert!(actual_lines == expected, "got\n{actual}\n\nexpected\n{}", expected.join("\n"));
}
