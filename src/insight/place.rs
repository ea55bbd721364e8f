//! Which build was the last one of the same place: whose time, size and files a build is compared with.

use memchr::memmem;

use crate::record::kept::Kept;
use crate::record::{Context, Record, Status, Target};

/// So many records are opened at most.
const MOST_READ: usize = 60;

/// Whether two builds were asked to build the same: context, Dockerfile, stage and platforms of each target.
pub fn is_same(a: &Record, b: &Record) -> bool {
    let place = |target: &Target| {
        let Target { name, context, dockerfile, stage, platforms, .. } = target;
        let Context { kind, at, repository, .. } = context;
        // A checkout that lies elsewhere is the same place; what came on standard input has none but its Dockerfile.
        let (at, inside) = match repository.as_ref().and_then(|found| Some((found.remote.clone()?, found))) {
            Some((remote, found)) => (remote, found.path.clone()),
            None => (at.clone(), String::new()),
        };
        let file = (at.is_empty()).then(|| dockerfile.digest.clone());
        (
            name.clone(),
            *kind as u8,
            at,
            inside,
            dockerfile.name.clone(),
            file,
            stage.clone(),
            platforms.clone(),
        )
    };
    !a.targets.is_empty()
        && a.targets.len() == b.targets.len()
        && a.targets.iter().zip(&b.targets).all(|(a, b)| place(a) == place(b))
}

/// Builds of the same place before `record`, the newest first; each is read when it is asked for. `kept` are the records of the store,
/// newest first; those that cannot be read are passed over.
pub fn earlier<'k>(record: &'k Record, kept: &'k [Kept]) -> impl Iterator<Item = Record> + 'k {
    let before = kept.iter().filter(move |kept| kept.started_ms <= record.started_ms && kept.id != record.id);
    let finder = memmem::Finder::new(&mark(record)).into_owned();
    let read = before.take(MOST_READ).filter_map(move |kept| kept.read_if(&finder));
    read.filter(move |other| is_same(record, other))
}

/// What is in the text of every record of the same place.
fn mark(record: &Record) -> String {
    let Some(Target { context, dockerfile, .. }) = record.targets.first() else { return String::new() };
    let remote = context.repository.as_ref().and_then(|found| found.remote.as_deref());
    let mark = remote.unwrap_or(if context.at.is_empty() { &dockerfile.digest } else { &context.at });
    serde_json::to_string(mark).unwrap_or_default()
}

/// The last build of the same place before `record` that came to an end.
pub fn last_before(record: &Record, kept: &[Kept]) -> Option<Record> {
    earlier(record, kept).find(|other| other.status == Status::Completed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::{ContextKind, Repository};

    fn record(at: &str, stage: Option<&str>, remote: Option<&str>) -> Record {
        let repository =
            remote.map(|remote| Repository { remote: Some(remote.to_owned()), ..Repository::default() });
        let context = Context { at: at.to_owned(), repository, ..Context::default() };
        let target = Target { context, stage: stage.map(str::to_owned), ..Target::default() };
        Record { targets: vec![target], ..Record::default() }
    }

    #[test]
    fn a_place_is_a_context_with_a_stage() {
        let a = record("/src/a", None, None);
        assert!(is_same(&a, &a));
        assert!(!is_same(&a, &record("/src/b", None, None)));
        assert!(!is_same(&a, &record("/src/a", Some("test"), None)));
        assert!(is_same(
            &record("/ci/1", None, Some("https://h/x")),
            &record("/ci/2", None, Some("https://h/x"))
        ));
        let stdin = |digest: &str| {
            let mut record = record("", None, None);
            record.targets[0].context.kind = ContextKind::Stdin;
            record.targets[0].dockerfile.digest = digest.to_owned();
            record
        };
        assert!(is_same(&stdin("x"), &stdin("x")) && !is_same(&stdin("x"), &stdin("y")));
        assert!(!is_same(&Record::default(), &Record::default()));
    }
}
