//! Whether a build may take what it takes from elsewhere: asked when it is planned, before anything runs.

mod attested;

use std::collections::BTreeMap;

use super::{ContextFrom, DockerfileFrom, Request};
use crate::config::policy::{Attested, Policy, Rule, Verdict};
use crate::export::Engine;
use crate::http::Hops;
use crate::oci::{Digest, Reference};
use crate::plan::graph::{BaseOrigin, CopySource, Op, Plan};
use crate::plan::{self, ContextSource, SourceKind};
use crate::report::{Diagnostic, Source, Span};
use crate::solve::Services;
use crate::source::git::GitSource;
use crate::text::url::without_password;
use crate::transport::{self, SignatureError};

use std::sync::Arc;

/// Something that a build takes.
struct Taken<'p> {
    /// What messages call it.
    shown: String,
    what: What<'p>,
    /// Where the Dockerfile names it.
    span: Option<Span>,
}

impl Taken<'_> {
    /// Of a file the fragment is not asked for, so it means nothing.
    fn url(&self) -> &str {
        match plan::source_kind(&self.shown) {
            SourceKind::Git => &self.shown,
            SourceKind::Url | SourceKind::Path => self.shown.split('#').next().unwrap_or(&self.shown),
        }
    }
}

enum What<'p> {
    /// An image: its name, whether that or rbuild.lock says which, and the digest that it has, if that is known, and that of its
    /// platform's manifest.
    Image(&'p Reference, bool, Option<Digest>, Option<Digest>),
    /// An image of this machine, by a name with its kind before it.
    Local,
    /// What is behind a URL, and whether a checksum or a commit says what it is.
    Url { is_pinned: bool },
}

/// Refuses what no context may come from, before it is fetched.
pub(super) fn check_contexts(request: &Request) -> Result<(), Vec<Diagnostic>> {
    if request.policies.is_empty() {
        return Ok(());
    }
    let named = request.options.contexts.iter().filter_map(|(_, source)| match source {
        ContextSource::Git(url) | ContextSource::Url(url) => Some(url),
        _ => None,
    });
    let main = match &request.context {
        ContextFrom::Git(url) | ContextFrom::Url(url) => Some(url),
        ContextFrom::Directory(_) | ContextFrom::Stdin | ContextFrom::Archive(_) => None,
    };
    let dockerfile = match &request.dockerfile {
        DockerfileFrom::Url(url) => Some(url),
        _ => None,
    };
    let taken = main.into_iter().chain(named).chain(dockerfile).map(|url| of_url(url, false, None));
    refuse(request, &taken.collect::<Vec<_>>())
}

/// Refuses a URL that is fetched before there is a plan.
pub(super) fn check_url(request: &Request, url: &str, is_pinned: bool) -> Result<(), Vec<Diagnostic>> {
    refuse(request, &[of_url(url, is_pinned, None)])
}

fn refuse(request: &Request, taken: &[Taken<'_>]) -> Result<(), Vec<Diagnostic>> {
    let mut violations = Vec::new();
    for policy in &request.policies {
        violations.extend(taken.iter().filter_map(|taken| violation(policy, taken, None)));
    }
    if violations.is_empty() { Ok(()) } else { Err(violations) }
}

/// Where servers may send the build, for something with a checksum or without.
pub(super) fn hops(request: &Request, is_pinned: bool) -> Hops {
    if request.policies.is_empty() {
        return Hops::default();
    }
    let policies = request.policies.clone();
    Hops::asking(move |url| {
        // What looks like a commit there is the server's choice.
        let shown = without_password(url).to_string();
        let taken = Taken { shown, what: What::Url { is_pinned }, span: None };
        let problem = policies.iter().find_map(|policy| violation(policy, &taken, None))?;
        let notes: Vec<&str> = problem.notes.iter().map(String::as_str).collect();
        Some(format!("a redirect leads elsewhere, and {} ({})", problem.message, notes.join("; ")))
    })
}

/// Refuses what the plans take and may not; asks registries for the signatures that are wanted.
pub(super) fn check(
    request: &Request,
    plans: &[Plan],
    source: &Arc<Source>,
    services: &Services,
) -> Result<(), Vec<Diagnostic>> {
    if request.policies.is_empty() {
        return Ok(());
    }
    let mut violations: Vec<Diagnostic> = Vec::new();
    let mut verified = Verified::new();
    for taken in plans.iter().flat_map(|plan| taken(plan, services)) {
        for (at, policy) in request.policies.iter().enumerate() {
            let policy = Asked { at, policy };
            let found = match violation(policy.policy, &taken, Some(source)) {
                Some(violation) => Some(violation),
                None => signatures(policy, &taken, source, services, &mut verified)
                    .or_else(|| attestations(policy, &taken, source, services, &mut verified)),
            };
            if let Some(violation) = found.filter(|violation| !violations.contains(violation)) {
                violations.push(violation);
            }
        }
    }
    if violations.is_empty() { Ok(()) } else { Err(violations) }
}

/// All that a plan takes from elsewhere.
fn taken<'p>(plan: &'p Plan, services: &Services) -> Vec<Taken<'p>> {
    let mut all = Vec::new();
    for step in &plan.graph.steps {
        match &step.op {
            Op::Base(base) => {
                let span = Some(base.request.span);
                match &base.request.origin {
                    BaseOrigin::Image(reference) => all.push(Taken {
                        shown: base.request.name.clone(),
                        what: What::Image(
                            reference,
                            services.pins.known_image(reference).is_some(),
                            Some(base.image.target.digest),
                            Some(base.image.manifest.digest),
                        ),
                        span,
                    }),
                    BaseOrigin::Layout { path, .. } => {
                        all.push(Taken { shown: format!("oci-layout://{path}"), what: What::Local, span });
                    }
                    BaseOrigin::Engine(image) => {
                        let kind = if image.engine == Engine::DOCKER {
                            "docker-daemon"
                        } else {
                            "containers-storage"
                        };
                        all.push(Taken { shown: format!("{kind}:{}", image.name), what: What::Local, span });
                    }
                    BaseOrigin::Linked { .. } => {}
                }
            }
            Op::Image(image) => {
                let digest = services.pins.known_image(&image.reference);
                let what = What::Image(&image.reference, digest.is_some(), digest, None);
                all.push(Taken { shown: image.reference.to_string(), what, span: step.span });
            }
            Op::Copy { op, .. } => {
                for source in &op.sources {
                    if let CopySource::Url { url, span } | CopySource::Git { url, span } = source {
                        let is_pinned = op.checksum.is_some() || services.pins.is_pinned_url(url);
                        all.push(of_url(url, is_pinned, *span));
                    }
                }
            }
            Op::Scratch | Op::Local(_) | Op::Workdir { .. } | Op::Exec { .. } => {}
        }
    }
    all
}

fn of_url<'p>(url: &str, is_pinned: bool, span: Option<Span>) -> Taken<'p> {
    let names_commit = || {
        let is_git = plan::source_kind(url) == SourceKind::Git;
        is_git && GitSource::new(url, None, false).is_ok_and(|source| source.movable_name().is_none())
    };
    let is_pinned = is_pinned || names_commit();
    Taken { shown: without_password(url).to_string(), what: What::Url { is_pinned }, span }
}

/// Registry and repository.
fn name_of(reference: &Reference) -> String {
    format!("{}/{}", reference.registry(), reference.repository())
}

fn verdict<'p>(policy: &'p Policy, taken: &Taken<'_>) -> Verdict<'p> {
    match &taken.what {
        What::Image(reference, ..) => {
            let name = name_of(reference);
            let with_tag = format!("{name}:{}", reference.tag().unwrap_or("latest"));
            policy.image(&name, &with_tag)
        }
        What::Local => policy.local(&taken.shown),
        What::Url { .. } => policy.url(taken.url()),
    }
}

/// What a policy says against it by its name alone.
fn violation(policy: &Policy, taken: &Taken<'_>, source: Option<&Arc<Source>>) -> Option<Diagnostic> {
    let Taken { shown, what, .. } = taken;
    match verdict(policy, taken) {
        Verdict::Free => None,
        Verdict::Unnamed => {
            let note = format!("`{}` allows what it names, and does not name this", policy.path().display());
            Some(refused(taken, source, format!("the policy does not allow `{shown}`")).note(note))
        }
        Verdict::Ruled(rule) => {
            if let Some(reason) = &rule.denied {
                let refused = refused(taken, source, format!("the policy does not allow `{shown}`"));
                let place = &rule.place;
                return Some(refused.note(match reason.as_str() {
                    "" => format!("{place} denies it"),
                    reason => format!("{place}: {reason}"),
                }));
            }
            let (is_pinned, wanted, help) = match what {
                What::Image(_, true, ..) => return None,
                What::Image(_, false, digest, _) => (
                    false,
                    "by its digest",
                    match digest {
                        Some(digest) => format!(
                            "write `{shown}@{digest}`, which is what it is now; `rbuild lock` does so for all in rbuild.lock"
                        ),
                        None => "write it with `@sha256:…`".to_owned(),
                    },
                ),
                What::Local => (true, "", String::new()),
                What::Url { is_pinned } => (
                    *is_pinned,
                    "with a checksum or a commit",
                    "`ADD --checksum=…`, or `rbuild lock`".to_owned(),
                ),
            };
            let is_refused = rule.pinned && !is_pinned;
            is_refused.then(|| {
                let message = format!("the policy wants `{shown}` {wanted}");
                refused(taken, source, message).note(format!("{} says so", rule.place)).help(help)
            })
        }
    }
}

/// Rules, and their place among those of the build.
#[derive(Clone, Copy)]
struct Asked<'p> {
    at: usize,
    policy: &'p Policy,
}

/// Whether one of the keys that a rule names signed the image.
fn signatures(
    Asked { at, policy }: Asked<'_>,
    taken: &Taken<'_>,
    source: &Arc<Source>,
    services: &Services,
    verified: &mut Verified,
) -> Option<Diagnostic> {
    let Verdict::Ruled(rule @ Rule { keys, .. }) = verdict(policy, taken) else { return None };
    if keys.is_empty() {
        return None;
    }
    let message = format!("the policy wants a signature of `{}`", taken.shown);
    let (name, digest) = match known(taken, source, rule, &message) {
        Ok(Known { name, digest, .. }) => (name, digest),
        Err(refusal) => return *refusal,
    };
    let question = Question::of((at, rule, None), name, vec![digest]);
    let problem = verified.entry(question).or_insert_with(|| {
        let believed = transport::verify_signatures(&services.registry, (name, &digest), keys);
        believed.err().map(|error| Problem::of(&error))
    });
    let problem = problem.clone()?;
    Some(problem.told(message, |message| refused(taken, Some(source), message), &rule.place))
}

/// Whether somebody whom a rule trusts said of the image what the rule wants to be said.
fn attestations(
    Asked { at, policy }: Asked<'_>,
    taken: &Taken<'_>,
    source: &Arc<Source>,
    services: &Services,
    verified: &mut Verified,
) -> Option<Diagnostic> {
    let Verdict::Ruled(rule) = verdict(policy, taken) else { return None };
    let of = |(number, wanted): (usize, &Attested)| {
        let message = format!("the policy wants {} of `{}` that is signed", wanted.shown, taken.shown);
        let Known { name, digests, .. } = match known(taken, source, rule, &message) {
            Ok(known) => known,
            Err(refusal) => return *refusal,
        };
        let question = Question::of((at, rule, Some(number)), name, digests.clone());
        let problem = verified
            .entry(question)
            .or_insert_with(|| attested::missing(wanted, &services.registry, (name, &digests)));
        let problem = problem.clone()?;
        Some(problem.told(message, |message| refused(taken, Some(source), message), &wanted.place))
    };
    rule.attestations.iter().enumerate().find_map(of)
}

/// An image of a registry, as it can be asked for.
struct Known<'p> {
    name: &'p Reference,
    digest: Digest,
    /// That, and the digest of the manifest of the platform.
    digests: Vec<Digest>,
}

/// What can be asked about something that is taken; else what is said against it: nothing of URLs.
fn known<'p>(
    taken: &Taken<'p>,
    source: &Arc<Source>,
    rule: &Rule,
    message: &str,
) -> Result<Known<'p>, Box<Option<Diagnostic>>> {
    let refusal = |help: &str| {
        let refused = refused(taken, Some(source), message.to_owned());
        Box::new(Some(refused.note(format!("{} says so", rule.place)).help(help)))
    };
    match &taken.what {
        What::Image(name, _, digest, manifest) => {
            let digest = digest.or(name.digest()).ok_or_else(|| {
                refusal("write it with `@sha256:…`, or as a stage (`FROM … AS name`): only what is known before the build can be checked")
            })?;
            let digests = [Some(digest), manifest.filter(|manifest| *manifest != digest)];
            Ok(Known { name, digest, digests: digests.into_iter().flatten().collect() })
        }
        What::Local => Err(refusal("what is signed of an image is kept in its registry: name it there")),
        What::Url { .. } => Err(Box::new(None)),
    }
}

/// What registries said of images: each question is asked once.
type Verified = BTreeMap<Question, Option<Problem>>;

/// Whether what one rule wants is so of an image.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Question {
    /// The place of the rules among those of the build.
    policy: usize,
    rule: usize,
    /// Which of those that the rule wants; `None` for signatures.
    attestation: Option<usize>,
    name: String,
    /// All that it may be said of.
    digests: Vec<Digest>,
}

impl Question {
    /// What the policy of this place wants by a rule, and by which of its attestations.
    fn of(
        (policy, rule, attestation): (usize, &Rule, Option<usize>),
        name: &Reference,
        digests: Vec<Digest>,
    ) -> Self {
        Self { policy, rule: rule.number, attestation, name: name_of(name), digests }
    }
}

/// Why something is not said of an image, or why nobody can tell.
#[derive(Clone)]
struct Problem {
    why: String,
    /// Of a registry that did not answer: how to go on, and whether another try may do.
    silent: Option<(Option<String>, bool)>,
}

impl Problem {
    /// It is not said.
    fn missing(why: String) -> Self {
        Self { why, silent: None }
    }

    fn of(error: &SignatureError) -> Self {
        match error {
            SignatureError::Unsigned { .. } | SignatureError::Refused { .. } => {
                Self::missing(error.to_string())
            }
            SignatureError::Registry(_)
            | SignatureError::Beside(_)
            | SignatureError::NoImage(_)
            | SignatureError::Damaged { .. } => {
                Self { why: error.to_string(), silent: Some((error.help(), error.is_transient())) }
            }
        }
    }

    /// `message` says what the rule at `place` wants.
    fn told(self, message: String, refused: impl Fn(String) -> Diagnostic, place: &str) -> Diagnostic {
        let note = format!("{place} says so");
        match self.silent {
            None => refused(message).note(self.why).note(note),
            Some((help, is_transient)) => {
                let told = refused(format!("{message}, and nobody can tell whether there is one"));
                let told = told.note(self.why).note(note).transient(is_transient);
                help.into_iter().fold(told, Diagnostic::help)
            }
        }
    }
}

fn refused(taken: &Taken<'_>, source: Option<&Arc<Source>>, message: String) -> Diagnostic {
    let error = Diagnostic::error(message);
    match (source, taken.span) {
        (Some(source), Some(span)) => error.at(source, span, ""),
        _ => error,
    }
}
