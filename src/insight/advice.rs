//! Advice about a Dockerfile that is measured: in the records of builds of one place, what a change to it would have saved.

use super::missed::counterpart;
use crate::record::{Outcome, Record, Step};

/// Copy what a slow step reads before the rest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CopyFirst {
    /// The step that copies everything, as an index of the newest record.
    pub copy: usize,
    /// The slow step behind it.
    pub slow: usize,
    /// What that reads, as its manual says.
    pub files: &'static str,
    /// The command.
    pub command: &'static str,
    /// What it took in builds in which none of these files had changed, in milliseconds.
    pub took_ms: u64,
    /// In how many builds.
    pub times: usize,
    /// Of how many.
    pub of: usize,
}

/// What commands that fetch packages read, and nothing beside.
const READERS: [(&str, &str); 14] = [
    ("npm ci", "package.json package-lock.json"),
    ("npm install", "package.json package-lock.json"),
    ("yarn install", "package.json yarn.lock"),
    ("pnpm install", "package.json pnpm-lock.yaml"),
    ("pip install -r requirements.txt", "requirements.txt"),
    ("pip install --no-cache-dir -r requirements.txt", "requirements.txt"),
    ("uv sync", "pyproject.toml uv.lock"),
    ("poetry install", "pyproject.toml poetry.lock"),
    ("bundle install", "Gemfile Gemfile.lock"),
    ("composer install", "composer.json composer.lock"),
    ("go mod download", "go.mod go.sum"),
    ("cargo fetch", "Cargo.toml Cargo.lock"),
    ("mvn dependency:go-offline", "pom.xml"),
    ("dotnet restore", "*.csproj"),
];
/// It is not said of less than this in all,
const LEAST_MS: u64 = 2_000;
/// nor of something that happened once.
const LEAST_TIMES: usize = 2;

/// Where a step that fetches packages stands on everything, and so ran again although nothing that it reads had changed. `records` are
/// builds of one place, the newest first.
pub fn copy_first(records: &[Record]) -> Option<CopyFirst> {
    let newest = records.first()?;
    let mut best: Option<CopyFirst> = None;
    for (slow, step) in newest.steps.iter().enumerate() {
        let Some((command, files)) = reader(step) else { continue };
        let Some(copy) = below(newest, step).find(|at| copies_all(&newest.steps[*at])) else { continue };
        let (mut took_ms, mut times) = (0u64, 0);
        for record in records {
            let of = |at: usize| counterpart(&newest.steps[at], record);
            let (Some(copy), Some(slow)) = (of(copy), of(slow)) else { continue };
            let is_other = copy.missed.as_deref().is_some_and(|why| is_of_another_file(why, files));
            if is_other && slow.outcome == Some(Outcome::Ran) {
                took_ms = took_ms.saturating_add(slow.took_ms.unwrap_or(0));
                times += 1;
            }
        }
        let found = CopyFirst { copy, slow, files, command, took_ms, times, of: records.len() };
        let is_worth = took_ms >= LEAST_MS && times >= LEAST_TIMES;
        if is_worth && best.as_ref().is_none_or(|best| best.took_ms < took_ms) {
            best = Some(found);
        }
    }
    best
}

/// Whether [`copy_first`] may have something to say of a step.
pub fn reads_packages(step: &Step) -> bool {
    reader(step).is_some()
}

fn reader(step: &Step) -> Option<(&'static str, &'static str)> {
    if !step.title.starts_with("RUN ") {
        return None;
    }
    READERS.into_iter().find(|(command, _)| step.title.contains(command))
}

/// `COPY . .` and the like: of a whole folder, from the context.
fn copies_all(step: &Step) -> bool {
    let mut words =
        step.title.split(' ').filter(|word| !word.starts_with("--chown") && !word.starts_with("--link"));
    matches!(words.next(), Some("COPY" | "ADD")) && matches!(words.next(), Some("." | "./"))
}

/// The steps that a step stands on in its own stage, from the nearest on.
fn below<'r>(record: &'r Record, step: &'r Step) -> impl Iterator<Item = usize> + 'r {
    let stage = |step: &'r Step| step.place.rsplit_once(' ').map(|(stage, _)| stage);
    let before = (0..step.number.saturating_sub(1).min(record.steps.len())).rev();
    before.filter(move |at| {
        let other = &record.steps[*at];
        !other.place.is_empty() && stage(other) == stage(step) && other.platform == step.platform
    })
}

/// Whether the cache says of a file that it changed, and it is none of those.
fn is_of_another_file(why: &str, files: &str) -> bool {
    let Some((name, _)) = why.split_once(" changed").or_else(|| why.split_once(" is ")) else { return false };
    let name = name.trim_matches('`').rsplit('/').next().unwrap_or_default();
    let is_it = |pattern: &str| match pattern.strip_prefix('*') {
        Some(end) => name.ends_with(end),
        None => name == pattern,
    };
    name.contains('.') && !files.split(' ').any(is_it)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(why: &str, took_ms: u64, copy: &str) -> Record {
        let step = |number: usize, title: &str| Step {
            number,
            title: title.to_owned(),
            place: format!("[{number}/3]"),
            outcome: Some(Outcome::Ran),
            ..Step::default()
        };
        let copy = Step { missed: Some(why.to_owned()), ..step(2, copy) };
        let run = Step { took_ms: Some(took_ms), ..step(3, "RUN npm ci && npm run build") };
        Record { steps: vec![step(1, "FROM node"), copy, run], ..Record::default() }
    }

    #[test]
    fn what_a_copy_before_would_have_saved_is_added_up() {
        let all = |copy: &str| {
            [
                record("src/a.js changed", 20_000, copy),
                record("package.json changed, and 1 more", 30_000, copy),
                record("src/b.js changed, and 2 more", 21_000, copy),
            ]
        };
        let found = copy_first(&all("COPY . .")).unwrap_or_else(|| panic!("nothing"));
        assert_eq!((found.copy, found.slow, found.took_ms, found.times, found.of), (1, 2, 41_000, 2, 3));
        assert_eq!((found.files, found.command), ("package.json package-lock.json", "npm ci"));
        // Who does it right is told nothing, nor is somebody to whom it happened once.
        assert_eq!(copy_first(&all("COPY package.json .")), None);
        assert_eq!(copy_first(&all("COPY . .")[..2]), None);
        assert_eq!(copy_first(&[]), None);
    }
}
