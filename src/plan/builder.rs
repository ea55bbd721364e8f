//! Collects the steps and the listing of a plan, each source once.

use std::collections::HashMap;

use crate::oci::Platform;
use crate::report::{Span, StepNumber};

use super::graph::{
    BaseOp, CopyKind, CopyOp, CopySource, ImageOp, ListedInstruction, LocalOp, Op, Step, StepId,
};
use super::origin::{Remote, RemoteKind};

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Builder {
    /// The steps so far; inputs come first.
    pub(super) steps: Vec<Step>,
    /// The listing so far.
    pub(super) listing: Vec<ListedInstruction>,
    sources: HashMap<Source, StepId>,
}

/// What makes two sources the same.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Source {
    Scratch,
    /// By its number among the bases.
    Base(usize),
    Image(crate::oci::Reference, Platform),
    Local(String),
    Remote(Remote),
    /// A folder as the root of a stage.
    Root(String),
}

/// A line of the listing, before it is known which step it has.
#[derive(Debug, Clone)]
pub(super) struct Line {
    /// Such as `[build 2/5]`.
    pub(super) place: String,
    /// The instruction.
    pub(super) title: String,
    /// See [`ListedInstruction`].
    pub(super) platform: Option<Platform>,
    /// See [`ListedInstruction`].
    pub(super) span: Option<Span>,
}

impl Line {
    /// Of something that no instruction stands for.
    fn of_source(title: String, platform: Option<&Platform>) -> Self {
        Self { place: String::new(), title, platform: platform.cloned(), span: None }
    }

    fn listed(self, step: Option<StepId>, after: Option<StepId>) -> ListedInstruction {
        let Self { place, title, platform, span } = self;
        ListedInstruction { place, title, platform, step, after, span }
    }
}

impl Builder {
    /// Adds a step with its line.
    pub(super) fn step(&mut self, op: Op, span: Option<Span>, line: Line, slot: String) -> StepId {
        let id = StepId(self.steps.len());
        let number = StepNumber(self.listing.len());
        self.steps.push(Step { owner: 0, op, span, number, slot, origin: None });
        self.listing.push(Line { span: line.span.or(span), ..line }.listed(Some(id), None));
        id
    }

    /// Says which instruction the last step stands for.
    pub(super) fn stands_for(&mut self, stage: usize, number: usize) {
        if let Some(step) = self.steps.last_mut() {
            step.origin = Some((stage, number));
        }
    }

    /// Adds a line of an instruction that makes no step.
    pub(super) fn line(&mut self, line: Line, after: Option<StepId>) {
        self.listing.push(line.listed(None, after));
    }

    /// The step of a base, once; with the line of the FROM that names it first.
    pub(super) fn base(&mut self, index: usize, base: &BaseOp, span: Span, line: Line) -> StepId {
        let slot = format!("base/{}", base.request.name);
        self.from(Source::Base(index), Op::Base(base.clone()), Some(span), line, slot)
    }

    /// The empty root, once.
    pub(super) fn scratch(&mut self, line: Line) -> StepId {
        self.from(Source::Scratch, Op::Scratch, None, line, "scratch".to_owned())
    }

    fn from(&mut self, source: Source, op: Op, span: Option<Span>, line: Line, slot: String) -> StepId {
        match self.known(&source) {
            Some(id) => {
                self.line(Line { span: line.span.or(span), ..line }, Some(id));
                id
            }
            None => {
                let id = self.step(op, span, line, slot);
                self.sources.insert(source, id);
                id
            }
        }
    }

    /// A base that is only copied from or mounted.
    pub(super) fn files_of_base(&mut self, index: usize, base: &BaseOp) -> StepId {
        let name = &base.request.name;
        let line = Line::of_source(format!("image {name}"), Some(&base.request.platform));
        let slot = format!("base/{name}");
        self.source(Source::Base(index), Op::Base(base.clone()), line, slot)
    }

    /// The empty root, to copy nothing from.
    pub(super) fn nothing(&mut self) -> StepId {
        let line = Line::of_source("scratch".to_owned(), None);
        self.source(Source::Scratch, Op::Scratch, line, "scratch".to_owned())
    }

    /// An image that is copied from or mounted.
    /// `span` is where it is named first: there it is told when it cannot be had.
    pub(super) fn image(&mut self, image: &ImageOp, span: Option<Span>) -> StepId {
        let source = Source::Image(image.reference.clone(), image.platform.clone());
        if let Some(id) = self.known(&source) {
            return id;
        }
        let name = image.reference.to_string();
        let line = Line::of_source(format!("image {name}"), Some(&image.platform));
        let id = self.step(Op::Image(image.clone()), span, line, format!("image/{name}"));
        self.sources.insert(source, id);
        id
    }

    /// The main context (no name), or a named one.
    pub(super) fn local(&mut self, name: &str) -> StepId {
        let title = match name {
            "" => "load build context".to_owned(),
            name => format!("load context `{name}`"),
        };
        let line = Line::of_source(title, None);
        let op = Op::Local(LocalOp { name: name.to_owned(), number: None });
        self.source(Source::Local(name.to_owned()), op, line, format!("context/{name}"))
    }

    /// A named context that is fetched: what ADD would make of it, alone on an empty root.
    pub(super) fn remote(&mut self, remote: &Remote, epoch: Option<i64>) -> StepId {
        let key = Source::Remote(remote.clone());
        if let Some(id) = self.known(&key) {
            return id;
        }
        let url = remote.url.clone();
        let (source, destination) = match remote.kind {
            RemoteKind::Git => (CopySource::Git { url, span: None }, "/"),
            RemoteKind::Url => (CopySource::Url { url, span: None }, "/context"),
        };
        let op = plain_transfer(CopyKind::Add, source, destination, epoch);
        self.root(key, op, &remote.name)
    }

    /// A folder as the root of a stage: all of it, copied onto nothing.
    pub(super) fn local_root(&mut self, name: &str, epoch: Option<i64>) -> StepId {
        let key = Source::Root(name.to_owned());
        if let Some(id) = self.known(&key) {
            return id;
        }
        let from = self.local(name);
        let source = CopySource::Path { from, pattern: "/".to_owned(), span: None };
        let op = plain_transfer(CopyKind::Copy, source, "/", epoch);
        self.root(key, op, name)
    }

    fn root(&mut self, key: Source, op: CopyOp, name: &str) -> StepId {
        let op = Op::Copy { parent: self.nothing(), op };
        let line = Line::of_source(format!("context `{name}`"), None);
        let id = self.step(op, None, line, format!("root/{name}"));
        self.sources.insert(key, id);
        id
    }

    fn source(&mut self, source: Source, op: Op, line: Line, slot: String) -> StepId {
        if let Some(id) = self.known(&source) {
            return id;
        }
        let id = self.step(op, None, line, slot);
        self.sources.insert(source, id);
        id
    }

    fn known(&self, source: &Source) -> Option<StepId> {
        self.sources.get(source).copied()
    }
}

/// COPY or ADD of one source, without flags.
fn plain_transfer(kind: CopyKind, source: CopySource, destination: &str, epoch: Option<i64>) -> CopyOp {
    CopyOp {
        kind,
        sources: vec![source],
        destination: destination.to_owned(),
        chown: None,
        chmod: None,
        link: false,
        parents: false,
        excludes: Vec::new(),
        unpack: Some(false),
        checksum: None,
        keep_git_dir: false,
        epoch,
    }
}
