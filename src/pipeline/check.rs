//! Looks at a Dockerfile without building: faults, findings of checks, stages, arguments.
//!
//! Base images are neither fetched nor looked up. In their place stands an image of which nothing is known, so
//! InvalidBaseImagePlatform is left out, triggers of a base are not seen, and UndefinedVar is heeded in a stage on
//! such a base only where the name looks like a misspelt one: the base may well define the variable.

use std::path::Path;
use std::sync::Arc;

use super::{ContextFrom, Request, context, diagnose_store, dockerfile, inputs, tools};
use crate::context::{Ignore, ignore};
use crate::dockerfile::checks::{self, Filtered, message};
use crate::dockerfile::syntax::Dockerfile;
use crate::exec::Stop;
use crate::image::PlatformImage;
use crate::oci::{Config, ImageConfig, Platform};
use crate::plan::graph::{BaseOp, BaseRequest, CopyKind, CopySource, Op, Plan};
use crate::plan::{self, Lowered, Options};
use crate::report::{Diagnostic, Events, Severity, Source};
use crate::store::Store;

/// Triggers that named contexts bring in may name further images; so many rounds are heeded.
const MAX_ROUNDS: usize = 32;

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
    let dockerfile = match crate::dockerfile::parse(&source) {
        Ok(dockerfile) => dockerfile,
        Err(faults) => return Checked { faults, ..checked },
    };
    checked.strict = dockerfile.directives.check.as_ref().is_some_and(|check| check.error);
    match lower(&dockerfile, request) {
        Ok(plan) => {
            checked.findings = findings(&dockerfile, &plan, ignore.as_ref());
            checked.findings.retain(|finding| !may_come_from_base(&dockerfile, finding));
        }
        Err(told) => {
            let (faults, findings) = told.into_iter().partition(|d| d.severity == Severity::Error);
            (checked.faults, checked.findings) = (faults, findings);
            if checked.findings.is_empty() {
                checked.findings = written(&dockerfile);
            }
        }
    }
    checked
}

/// The Dockerfile of a request, lowered for its target.
pub fn outline(request: &Request, events: &Events) -> Result<Outlined, Vec<Diagnostic>> {
    let dockerfile = stages(request, events)?;
    let plan = lower(&dockerfile, request)?;
    Ok(Outlined { dockerfile, plan })
}

/// The Dockerfile of a request, parsed.
pub fn stages(request: &Request, events: &Events) -> Result<Dockerfile, Vec<Diagnostic>> {
    let (source, _) = read(request, events)?;
    crate::dockerfile::parse(&source)
}

/// The Dockerfile, and the ignore file of the main context. Only what is fetched needs the store.
fn read(request: &Request, events: &Events) -> Result<(Arc<Source>, Option<Ignore>), Vec<Diagnostic>> {
    if let ContextFrom::Directory(path) = &request.context
        && let Some((source, at)) = dockerfile::read_host(&request.dockerfile, path)?
    {
        return Ok((source, ignored(path, at.as_deref())?));
    }
    let store = Store::open(&request.store_root).map_err(|e| vec![diagnose_store(&e)])?;
    let tools = tools::Tools::new(&store, request, &Stop::default());
    let inputs = inputs::Inputs::open(request, &tools, events)?;
    Ok((Arc::clone(inputs.source()), None))
}

fn ignored(path: &Path, dockerfile: Option<&Path>) -> Result<Option<Ignore>, Vec<Diagnostic>> {
    ignore::load(path, dockerfile).map_err(|e| vec![context::diagnose(&e)])
}

/// Lowers with bases of which nothing is known. Findings do not fail: whoever asks decides on that.
fn lower(file: &Dockerfile, request: &Request) -> Result<Plan, Vec<Diagnostic>> {
    let mut file = file.clone();
    if let Some(check) = &mut file.directives.check {
        check.error = false;
    }
    let platform = request.platforms_or_host().swap_remove(0);
    let options = Options { platform, ..request.options.clone() };
    let mut bases: Vec<BaseOp> = plan::bases(&file, &options)?.into_iter().map(unknown).collect();
    for _ in 0..MAX_ROUNDS {
        match plan::lower(&file, &options, &bases)? {
            Lowered::Plan(plan) => return Ok(*plan),
            Lowered::Needs(more) => bases.extend(more.into_iter().map(unknown)),
        }
    }
    Err(vec![Diagnostic::error("the triggers of base images name ever more base images")])
}

/// An image of which nothing is known but what was asked for.
fn unknown(request: BaseRequest) -> BaseOp {
    let Platform { os, architecture, variant, .. } = request.platform.clone();
    let env = vec!["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".to_owned()];
    let config = Config { env, ..Config::default() };
    let config = ImageConfig { os, architecture, variant, config, ..ImageConfig::default() };
    BaseOp { request, image: Arc::new(PlatformImage::of_config(config)) }
}

/// What the syntax alone tells, when nothing more can be said.
fn written(file: &Dockerfile) -> Vec<Diagnostic> {
    checks::filter(file, checks::check(file)).findings
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
    for step in &plan.steps {
        let Op::Copy { op, .. } = &step.op else { continue };
        let verb = match op.kind {
            CopyKind::Copy => "Copy",
            CopyKind::Add => "Add",
        };
        for source in &op.sources {
            let CopySource::Path { from, pattern, span } = source else { continue };
            let is_main = matches!(&plan.steps[from.0].op, Op::Local(local) if local.name.is_empty());
            let (Some(span), true) = (span.or(step.span), is_main) else { continue };
            let path = crate::context::path::below_root(pattern.as_bytes());
            if let Some(blame) = (!path.is_empty()).then(|| ignore.blame(&path)).flatten() {
                let shown = String::from_utf8_lossy(&path);
                let message = message::copy_ignored_file(verb, &shown);
                found.push(
                    checks::COPY_IGNORED_FILE.finding(&file.source, span, message).note(blame.to_string()),
                );
            }
        }
    }
    checks::filter(file, found)
}

/// Whether a finding is about a variable that the stage's base, of which nothing is known, may define.
fn may_come_from_base(file: &Dockerfile, finding: &Diagnostic) -> bool {
    let about_variables = finding.code == Some(checks::UNDEFINED_VAR.name);
    if !about_variables || finding.message.contains("did you mean") {
        return false;
    }
    let Some(at) = finding.labels.first().map(|label| label.span) else { return false };
    let stage = file.stages.iter().rposition(|stage| stage.from.span.start <= at.start);
    stage.is_some_and(|stage| !starts_from_scratch(file, stage))
}

/// Whether a stage is built on nothing, by way of earlier stages perhaps.
fn starts_from_scratch(file: &Dockerfile, mut stage: usize) -> bool {
    loop {
        let image = &file.stages[stage].from.image.text;
        let named = |index: &usize| {
            let name = file.stages[*index].from.name.as_ref();
            name.is_some_and(|name| name.text.eq_ignore_ascii_case(image))
        };
        match (0..stage).rev().find(named) {
            Some(earlier) => stage = earlier,
            None => return image == "scratch",
        }
    }
}
