//! Why steps ran although there had been a build before: what changed, from what to what, and what that cost.

use super::timeline::Timeline;
use crate::cache::{ChangedField, Preimage, changes};
use crate::record::{Outcome, Record, Step};

/// So many changed fields are told of one step.
const FIELDS: usize = 20;
/// Values are cut after so many characters.
const VALUE: usize = 120;
/// Digits of a digest.
const DIGITS: usize = 12;

/// A step that ran because the cache had nothing for it, in a place that was built before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Miss {
    /// Its index in the record.
    pub step: usize,
    /// As the build said it: `src/app.py changed, and 2 more`.
    pub why: String,
    /// What changed, what says most first; nothing where what the steps were made of is no longer known.
    pub fields: Vec<Changed>,
    /// How many more fields changed.
    pub more: usize,
    /// The step that made this one run by running itself, as an index.
    pub cause: Option<usize>,
    /// How long it took.
    pub took_ms: u64,
    /// The steps that ran only because this one did, and so on.
    pub then: Vec<usize>,
    /// How long these took.
    pub then_ms: u64,
}

/// A field that changed. Values that might be secret are not told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Changed {
    /// In words: `src/app.py`, `ARG VERSION`, `the layer below`.
    pub what: String,
    /// What it was; `None` where there was nothing, or where it is not told.
    pub before: Option<String>,
    /// What it is.
    pub after: Option<String>,
}

/// Gives what the key of a step is the hash of, if the store still has it; keys in hexadecimal.
pub type Preimages<'p> = &'p dyn Fn(&str) -> Option<Preimage>;

/// The misses of a build, in the order of its steps; `last` is the build that it is compared with.
pub fn misses(record: &Record, last: Option<&Record>, preimages: Preimages<'_>) -> Vec<Miss> {
    let bars = Timeline::of(record).bars;
    let took = |step: usize| bars.iter().find(|bar| bar.step == step).map_or(0, |bar| bar.end - bar.work);
    let missed =
        record.steps.iter().enumerate().filter_map(|(at, step)| Some((at, step, step.missed.as_ref()?)));
    let missed = missed.filter(|(_, step, _)| matches!(step.outcome, Some(Outcome::Ran | Outcome::Failed)));
    let mut found: Vec<Miss> = missed
        .map(|(at, step, why)| {
            let (fields, more) = fields(record, step, last, preimages);
            let cause = cause(record, step, why);
            Miss {
                step: at,
                why: why.clone(),
                fields,
                more,
                cause,
                took_ms: took(at),
                then: Vec::new(),
                then_ms: 0,
            }
        })
        .collect();
    // Each step's time counts for the first that made it run.
    for at in 0..found.len() {
        let mut root = at;
        let mut steps = 0;
        while let Some(next) = found[root].cause.and_then(|cause| found.iter().position(|m| m.step == cause))
        {
            root = next;
            steps += 1;
            if steps > found.len() {
                root = at;
                break;
            }
        }
        if root != at {
            let (step, took) = (found[at].step, found[at].took_ms);
            found[root].then.push(step);
            found[root].then_ms = found[root].then_ms.saturating_add(took);
        }
    }
    found
}

/// Whether it ran since something below it did, as the cache says it.
fn is_of_parent(why: &str) -> bool {
    why.starts_with("the layer below changed") || why.starts_with("what is mounted at ")
}

/// The step that made this one run by running itself: what it stands on, what it copies from, or the nearest below it that ran for the
/// same reason.
fn cause(record: &Record, step: &Step, why: &str) -> Option<usize> {
    let mut ran = needs_that_ran(record, step);
    if is_of_parent(why) {
        return ran.next();
    }
    if step.title.contains("--from=") {
        return ran.find(|at| stage(&record.steps[*at].place) != stage(&step.place));
    }
    let mut below = ran.next();
    for _ in 0..record.steps.len() {
        let at = below?;
        let other = &record.steps[at];
        if other.missed.as_deref().is_some_and(|missed| clause(missed) == clause(why)) {
            return Some(at);
        }
        below = needs_that_ran(record, other).next();
    }
    None
}

fn needs_that_ran<'r>(record: &'r Record, step: &'r Step) -> impl Iterator<Item = usize> + 'r {
    let needs = step.needs.iter().filter_map(|number| number.checked_sub(1));
    let needs = needs.filter(|at| *at + 1 != step.number);
    needs.filter(|at| record.steps.get(*at).is_some_and(|step| step.outcome == Some(Outcome::Ran)))
}

/// The first of the reasons: `ARG V changed` of `ARG V changed, and 2 more`.
fn clause(why: &str) -> &str {
    why.split(", and ").next().unwrap_or(why)
}

fn fields(
    record: &Record,
    step: &Step,
    last: Option<&Record>,
    preimages: Preimages<'_>,
) -> (Vec<Changed>, usize) {
    let none = (Vec::new(), 0);
    let Some(last) = last else { return none };
    let Some(then) = counterpart(step, last) else { return none };
    let keys = then.key.as_deref().and_then(preimages).zip(step.key.as_deref().and_then(preimages));
    let Some((before, after)) = keys else { return none };
    let changed = changes(&before, &after);
    let more = changed.len().saturating_sub(FIELDS);
    let words = Words { titles: (&then.title, &step.title), records: (last, record) };
    (changed.iter().take(FIELDS).map(|field| words.of(field)).collect(), more)
}

/// The step of another build that stands where this one does.
pub fn counterpart<'r>(step: &Step, other: &'r Record) -> Option<&'r Step> {
    let of_target =
        || other.steps.iter().filter(|other| other.target == step.target && other.platform == step.platform);
    let same_title = |other: &&Step| other.title == step.title && stage(&other.place) == stage(&step.place);
    let same_place = |other: &&Step| {
        let word = |title: &str| title.split(' ').next().unwrap_or_default().to_owned();
        !step.place.is_empty() && other.place == step.place && word(&other.title) == word(&step.title)
    };
    of_target().find(same_title).or_else(|| of_target().find(same_place))
}

/// `build` of `[build 2/5]`.
fn stage(place: &str) -> &str {
    place.rsplit_once(' ').map_or("", |(stage, _)| stage)
}

struct Words<'r> {
    titles: (&'r str, &'r str),
    records: (&'r Record, &'r Record),
}

impl Words<'_> {
    fn of(&self, field: &ChangedField<'_>) -> Changed {
        let (kind, rest) = field.name.split_once(':').unwrap_or((field.name, ""));
        let one = |values: &Option<Vec<&str>>| match values.as_deref() {
            Some([only]) => Some((*only).to_owned()),
            _ => None,
        };
        let (before, after) = (one(&field.before), one(&field.after));
        let told = |what: String, before: Option<String>, after: Option<String>| Changed {
            what,
            before: before.map(|text| cut(&text)),
            after: after.map(|text| cut(&text)),
        };
        match kind {
            "file" | "files" if !rest.is_empty() => {
                let (before, after) = file_values(before.as_deref(), after.as_deref());
                told(rest.to_owned(), before, after)
            }
            "parent" => {
                let short = |text: Option<String>| text.map(|text| digits(&text).to_owned());
                told("the layer below".to_owned(), short(before), short(after))
            }
            "command" => {
                let (before, after) = self.titles;
                let is_told = before != after;
                let text = |text: &str| is_told.then(|| text.to_owned());
                told("the command".to_owned(), text(before), text(after))
            }
            "arg" => {
                let value = |record: &Record| {
                    let all = record.targets.iter().flat_map(|target| &target.arguments);
                    all.filter(|argument| argument.name == rest).find_map(|argument| argument.value.clone())
                };
                told(format!("ARG {rest}"), value(self.records.0), value(self.records.1))
            }
            "env" => told(format!("ENV {rest}"), None, None),
            "op" => told("the instruction".to_owned(), None, None),
            "mount" => told(format!("the mount at {rest}"), None, None),
            "mounted" => told(format!("what is mounted at {rest}"), None, None),
            "cwd" => told("the working directory".to_owned(), None, None),
            _ if rest.is_empty() => told(format!("the {kind}"), None, None),
            _ => told(format!("{kind} {rest}"), None, None),
        }
    }
}

/// Of two values `type mode uid:gid[ content]` what differs.
fn file_values(before: Option<&str>, after: Option<&str>) -> (Option<String>, Option<String>) {
    const NAMES: [&str; 4] = ["", "mode ", "owner ", ""];
    let parts = |value: &str| -> Vec<String> { value.splitn(4, ' ').map(str::to_owned).collect() };
    let whole = |value: &str| {
        let parts = parts(value);
        let content = parts.get(3).map(|content| content_word(&parts[0], content));
        content.unwrap_or_else(|| value.to_owned())
    };
    let (Some(a), Some(b)) = (before, after) else { return (before.map(whole), after.map(whole)) };
    let (a, b) = (parts(a), parts(b));
    let side = |own: &[String], other: &[String]| {
        let differ = (0..4).filter(|at| own.get(*at) != other.get(*at));
        let told = differ.filter_map(|at| {
            let text = own.get(at)?;
            Some(match at {
                3 => content_word(&own[0], text),
                at => format!("{}{text}", NAMES[at]),
            })
        });
        told.collect::<Vec<_>>().join(", ")
    };
    (Some(side(&a, &b)), Some(side(&b, &a)))
}

/// A digest in few digits; where a link leads to, as it is.
fn content_word(kind: &str, content: &str) -> String {
    if kind == "symlink" || kind == "link" { format!("→ {content}") } else { digits(content).to_owned() }
}

/// The first digits of a digest.
fn digits(text: &str) -> &str {
    let digits = text.rsplit(':').next().unwrap_or(text);
    match digits.len() > DIGITS && digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        true => &digits[..DIGITS],
        false => text,
    }
}

fn cut(text: &str) -> String {
    match text.char_indices().nth(VALUE) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::tests::step;
    use crate::record::{Argument, Target};

    fn missed(number: usize, needs: &[usize], times: (u64, u64, u64), why: &str, key: &str) -> Step {
        let key = Some(key.to_owned());
        Step {
            missed: Some(why.to_owned()),
            key,
            place: format!("[a {number}/3]"),
            ..step(number, needs, times)
        }
    }

    fn record(steps: Vec<Step>, value: Option<&str>) -> Record {
        let argument = Argument { name: "V".to_owned(), value: value.map(str::to_owned) };
        let target = Target { arguments: vec![argument], ..Target::default() };
        Record { steps, targets: vec![target], ..Record::default() }
    }

    fn preimage(fields: &[(&str, &str)]) -> Preimage {
        let mut preimage = Preimage::new("run/1");
        fields.iter().for_each(|(name, value)| preimage.push(name, value));
        preimage
    }

    #[test]
    fn the_first_step_that_changed_bears_what_follows() {
        let last = record(vec![missed(1, &[], (0, 1, 1), "", "old")], Some("1"));
        let now = record(
            vec![
                missed(1, &[], (0, 100, 100), "src/a.py changed, and 2 more", "new"),
                missed(2, &[1], (100, 300, 200), "the layer below changed", "x"),
                missed(3, &[2], (300, 350, 50), "the layer below changed, and 1 more", "y"),
                Step { missed: None, ..step(4, &[], (0, 9, 9)) },
            ],
            Some("2"),
        );
        let digest = "0123456789abcdef";
        let preimages = |key: &str| match key {
            "old" => Some(preimage(&[
                ("arg:V", "sesame"),
                ("env:SECRET", "sesame"),
                ("file:src/a.py", "file 0644 0:0 aaaaaaaaaaaaaaaaaaaa"),
                ("file:src/b", "file 0644 0:0 x"),
                ("parent", digest),
            ])),
            "new" => Some(preimage(&[
                ("arg:V", "open"),
                ("env:SECRET", "open"),
                ("file:src/a.py", "file 0644 0:0 bbbbbbbbbbbbbbbbbbbb"),
                ("file:src/b", "file 0755 0:0 x"),
                ("file:src/c", "symlink 0777 0:0 a.py"),
                ("parent", digest),
            ])),
            _ => None,
        };
        let told = misses(&now, Some(&last), &preimages);
        let costs: Vec<_> =
            told.iter().map(|m| (m.step, m.cause, m.took_ms, m.then.clone(), m.then_ms)).collect();
        assert_eq!(
            costs,
            [(0, None, 100, vec![1, 2], 250), (1, Some(0), 200, vec![], 0), (2, Some(1), 50, vec![], 0)]
        );
        let fields: Vec<_> = told[0]
            .fields
            .iter()
            .map(|f| (f.what.as_str(), f.before.as_deref().unwrap_or("-"), f.after.as_deref().unwrap_or("-")))
            .collect();
        assert_eq!(
            fields,
            [
                ("ARG V", "1", "2"),
                ("ENV SECRET", "-", "-"),
                ("src/a.py", "aaaaaaaaaaaa", "bbbbbbbbbbbb"),
                ("src/b", "mode 0644", "mode 0755"),
                ("src/c", "-", "→ a.py"),
            ]
        );
        assert!(told[1].fields.is_empty());
        assert_eq!(misses(&now, None, &preimages)[0].fields, []);
    }

    #[test]
    fn one_reason_is_told_once() {
        let of = |number, needs: &[usize], title: &str, stage: &str, why: &str| Step {
            title: title.to_owned(),
            place: format!("[{stage} {number}/9]"),
            missed: Some(why.to_owned()),
            ..step(number, needs, (0, 10, 10))
        };
        let record = record(
            vec![
                of(1, &[], "COPY . .", "build", "a changed"),
                of(2, &[], "RUN x", "last", "ARG V changed"),
                of(3, &[2, 1], "COPY --from=build /a /", "last", "a changed, and 1 more"),
                of(4, &[3], "RUN y", "last", "ARG V changed, and 1 more"),
                of(5, &[4], "COPY b /", "last", "b changed, and 1 more"),
            ],
            None,
        );
        let causes: Vec<_> = misses(&record, None, &|_| None).iter().map(|miss| miss.cause).collect();
        assert_eq!(causes, [None, None, Some(0), Some(1), None]);
    }

    #[test]
    fn a_circle_of_causes_ends() {
        let now = record(
            vec![
                missed(1, &[2], (0, 1, 1), "the layer below changed", "a"),
                missed(2, &[1], (0, 1, 1), "the layer below changed", "b"),
            ],
            None,
        );
        assert_eq!(misses(&now, None, &|_| None).len(), 2);
    }
}
