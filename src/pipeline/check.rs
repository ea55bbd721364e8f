//! Looks at a Dockerfile without building: faults, findings of checks, stages, arguments.
//!
//! In the place of base images stands one of which nothing is known, so InvalidBaseImagePlatform is left out and triggers
//! of a base are not seen. Only where the base may define a variable that nothing else does, its configuration is looked
//! up, in the store and else at its registry. Where it cannot be had, UndefinedVar is heeded only if the name looks like
//! a misspelt one.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::inputs::Pool;
use super::{ContextFrom, PullPolicy, Request, bases, context, dockerfile};
use crate::context::{Ignore, ignore};
use crate::dockerfile::checks::{self, Filtered, Phase, Rule, message};
use crate::dockerfile::syntax::{Dockerfile, From};
use crate::exec::Stop;
use crate::image::PlatformImage;
use crate::oci::{Config, ImageConfig, Platform};
use crate::plan::graph::{BaseOp, BaseRequest, CopyKind, CopySource, Op, Plan};
use crate::plan::{self, Options};
use crate::report::{Diagnostic, Events, Severity, Source};
use crate::solve::Services;
use crate::store::Store;

/// What looking at a Dockerfile gave.
#[derive(Debug)]
pub struct Checked {
    /// The Dockerfile; `None` when it could not be read.
    pub source: Option<Arc<Source>>,
    /// What a build would refuse.
    pub faults: Vec<Diagnostic>,
    /// What the checks found, in the order of the text.
    pub findings: Vec<Diagnostic>,
    /// The file itself wants findings to be errors.
    pub strict: bool,
}

/// A Dockerfile and what it comes to for the target, with unknown bases.
#[derive(Debug)]
pub struct Outlined {
    /// The file.
    pub dockerfile: Dockerfile,
    /// Its plan.
    pub plan: Plan,
}

/// Checks the Dockerfile of a request.
pub fn check(request: &Request, events: &Events) -> Checked {
    let mut checked = Checked { source: None, faults: Vec::new(), findings: Vec::new(), strict: false };
    let (source, ignore) = match read(request, events) {
        Ok(read) => read,
        Err(faults) => return Checked { faults, ..checked },
    };
    checked.source = Some(Arc::clone(&source));
    let dockerfile = match dockerfile::parse(&source, &request.options) {
        Ok(dockerfile) => dockerfile,
        Err(faults) => {
            let before = crate::dockerfile::parse_before_errors(&source);
            let findings = before.map(|file| written(&file, Phase::Reading)).unwrap_or_default();
            return Checked { faults, findings, ..checked };
        }
    };
    checked.strict = dockerfile.directives.check.as_ref().is_some_and(|check| check.error);
    let request = &Request { options: Options { lint: true, ..request.options.clone() }, ..request.clone() };
    checked.look(&dockerfile, request, &[], ignore.as_ref());
    let open: Vec<usize> =
        checked.findings.iter().filter_map(|finding| depends_on(&dockerfile, finding)).collect();
    let known = if open.is_empty() { Vec::new() } else { known_bases(request, &dockerfile, &open) };
    if !known.is_empty() {
        checked.look(&dockerfile, request, &known, ignore.as_ref());
    }
    let is_known = |stage: usize| known.iter().any(|base| names(&dockerfile, stage, &base.request));
    checked.findings.retain(|finding| depends_on(&dockerfile, finding).is_none_or(is_known));
    checked
}

impl Checked {
    /// Finds what there is to find with these bases; all others are unknown.
    fn look(&mut self, file: &Dockerfile, request: &Request, known: &[BaseOp], ignore: Option<&Ignore>) {
        match lower(file, request, known) {
            Ok(plan) => self.findings = findings(file, &plan, ignore),
            Err(told) => {
                (self.faults, self.findings) = told.into_iter().partition(|d| d.severity == Severity::Error);
                if self.findings.is_empty() {
                    self.findings = written(file, Phase::Stages);
                }
            }
        }
    }
}

/// The Dockerfile of a request, lowered for its target.
pub fn outline(request: &Request, events: &Events) -> Result<Outlined, Vec<Diagnostic>> {
    let dockerfile = stages(request, events)?;
    // Whatever `--allow` says; and the last stage is a target as any other.
    let target_number = request.options.target_number.or(match request.options.target {
        None => Some(dockerfile.stages.len() - 1),
        Some(_) => None,
    });
    let options = Options { lint: true, target_number, ..request.options.clone() };
    let plan = lower(&dockerfile, &Request { options, ..request.clone() }, &[])?;
    Ok(Outlined { dockerfile, plan })
}

/// The Dockerfile of a request, parsed.
pub fn stages(request: &Request, events: &Events) -> Result<Dockerfile, Vec<Diagnostic>> {
    let (source, _) = read(request, events)?;
    dockerfile::parse(&source, &request.options)
}

/// The Dockerfile, and the ignore file of the main context. Only what is fetched needs the store.
fn read(request: &Request, events: &Events) -> Result<(Arc<Source>, Option<Ignore>), Vec<Diagnostic>> {
    if let ContextFrom::Directory(path) = &request.context
        && let Some((source, at)) = dockerfile::read_host(&request.dockerfile, path)?
    {
        return Ok((source, ignored(path, at.as_deref())?));
    }
    let services = request.services(&Stop::default(), events)?;
    Ok((context::open(request, &services, &Pool::default())?.dockerfile, None))
}

fn ignored(path: &Path, dockerfile: Option<&Path>) -> Result<Option<Ignore>, Vec<Diagnostic>> {
    ignore::load(path, dockerfile).map_err(|e| vec![context::diagnose(&e)])
}

/// Lowers with `known` bases, and others of which nothing is known. Findings do not fail: whoever asks decides on that.
fn lower(file: &Dockerfile, request: &Request, known: &[BaseOp]) -> Result<Plan, Vec<Diagnostic>> {
    let mut file = file.clone();
    if let Some(check) = &mut file.directives.check {
        check.error = false;
    }
    let platform = request.platforms_or_host().swap_remove(0);
    let options = Options { platform, ..request.options.clone() };
    let base = |request: &BaseRequest| {
        let same = |base: &&BaseOp| base.request.key() == request.key();
        known.iter().find(same).cloned().unwrap_or_else(|| unknown(request.clone()))
    };
    plan::lower_with(&file, &options, &mut |wanted| Ok(wanted.iter().map(base).collect()))
}

/// An image of which nothing is known but what was asked for.
fn unknown(request: BaseRequest) -> BaseOp {
    let Platform { os, architecture, variant, .. } = request.platform.clone();
    let env = vec!["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".to_owned()];
    let config = Config { env, ..Config::default() };
    let config = ImageConfig { os, architecture, variant, config, ..ImageConfig::default() };
    BaseOp { request, image: Arc::new(PlatformImage::of_config(config)) }
}

/// The images on which these stages stand, as far as the store has their configuration, or else their registry gives it.
/// A registry that does not answer soon is left alone: the findings that depend on it are.
fn known_bases(request: &Request, file: &Dockerfile, stages: &[usize]) -> Vec<BaseOp> {
    let may_ask = !request.offline && request.pull != PullPolicy::Never;
    let Ok(mut wanted) = plan::bases(file, &request.options) else { return Vec::new() };
    wanted.retain(|base| stages.iter().any(|stage| names(file, *stage, base)));
    if wanted.is_empty() || !(may_ask || request.store_root.exists()) {
        return Vec::new();
    }
    let Ok(store) = Store::open(&request.store_root) else { return Vec::new() };
    let mut registries = request.registries.clone();
    registries.http.connect_timeout = Duration::from_secs(3);
    registries.http.attempts = 1;
    let services = Services::new(
        (&store, Vec::new()),
        &registries,
        &request.limits,
        (&Stop::default(), &Events::silent()),
    );
    wanted.iter().filter_map(|base| bases::known(&services, may_ask, base)).collect()
}

/// Whether the stage's FROM names the image.
fn names(file: &Dockerfile, stage: usize, base: &BaseRequest) -> bool {
    let from = &file.stages[stage].from;
    let asks = |from: &From| from.span.start <= base.span.start && base.span.end <= from.span.end;
    asks(from)
        || file.stages.iter().any(|other| {
            other.from.image.text == from.image.text
                && other.from.platform == from.platform
                && asks(&other.from)
        })
}

/// What the syntax alone tells, when nothing more can be said: what BuildKit looks at until this phase.
fn written(file: &Dockerfile, last: Phase) -> Vec<Diagnostic> {
    let mut findings = checks::filter(file, checks::check(file)).findings;
    findings.retain(|finding| finding.code.and_then(Rule::named).is_none_or(|rule| rule.phase() <= last));
    findings
}

/// Every finding about a plan: the plan's own, and those that need the context's ignore file.
fn findings(file: &Dockerfile, plan: &Plan, ignore: Option<&Ignore>) -> Vec<Diagnostic> {
    let mut findings = plan.warnings.clone();
    findings.extend(ignored_copies(file, plan, ignore).findings);
    findings.sort_by_key(|finding| finding.labels.first().map(|label| label.span));
    findings
}

/// CopyIgnoredFile: what COPY and ADD name in the main context, but the ignore file keeps out. Left out when the ignore
/// file has exceptions, as in BuildKit: a folder may be ignored and something in it not.
pub(super) fn ignored_copies(file: &Dockerfile, plan: &Plan, ignore: Option<&Ignore>) -> Filtered {
    let mut found = Vec::new();
    let Some(ignore) = ignore.filter(|ignore| !ignore.has_exceptions()) else {
        return checks::filter(file, found);
    };
    for step in &plan.graph.steps {
        let Op::Copy { op, .. } = &step.op else { continue };
        let verb = match op.kind {
            CopyKind::Copy => "Copy",
            CopyKind::Add => "Add",
        };
        for source in &op.sources {
            let CopySource::Path { from, pattern, span } = source else { continue };
            let is_main = matches!(&plan.graph.steps[from.0].op, Op::Local(local) if local.name.is_empty());
            let (Some(span), true) = (span.or(step.span), is_main) else { continue };
            let path = crate::context::path::below_root(pattern.as_bytes());
            let blame = if path.is_empty() { ignore.blame_all() } else { ignore.blame(&path) };
            if let Some(blame) = blame {
                let shown = if path.is_empty() { ".".into() } else { String::from_utf8_lossy(&path) };
                let message = message::copy_ignored_file(verb, &shown);
                found.push(
                    checks::COPY_IGNORED_FILE.finding(&file.source, span, message).note(blame.to_string()),
                );
            }
        }
    }
    checks::filter(file, found)
}

/// The stage whose base, of which nothing is known, may define the variable that a finding is about.
fn depends_on(file: &Dockerfile, finding: &Diagnostic) -> Option<usize> {
    let about_variables = finding.code == Some(checks::UNDEFINED_VAR.name);
    if !about_variables || finding.message.contains("did you mean") {
        return None;
    }
    let at = finding.labels.first()?.span;
    let stage = file.stages.iter().rposition(|stage| stage.from.span.start <= at.start)?;
    stands_on(file, stage)
}

/// The stage that a stage continues, by way of others perhaps, and that is built on an image; none of what is built on
/// nothing.
fn stands_on(file: &Dockerfile, mut stage: usize) -> Option<usize> {
    loop {
        let image = &file.stages[stage].from.image.text;
        let named = |index: &usize| {
            let name = file.stages[*index].from.name.as_ref();
            name.is_some_and(|name| name.text.eq_ignore_ascii_case(image))
        };
        match (0..stage).rev().find(named) {
            Some(earlier) => stage = earlier,
            None => return (image != "scratch").then_some(stage),
        }
    }
}
