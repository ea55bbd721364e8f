//! What other programs get from the library: builds, plans, images and errors, in texts and numbers.

use std::fs;

use rbuild::api::{Build, Event, Images, Outlook};

/// A folder with a Dockerfile and a file, and a place for a store beside it.
fn project(dockerfile: &str) -> (tempfile::TempDir, Build) {
    let folder = tempfile::tempdir().unwrap();
    let context = folder.path().join("context");
    fs::create_dir(&context).unwrap();
    fs::write(context.join("Dockerfile"), dockerfile).unwrap();
    fs::write(context.join("a"), "a file\n").unwrap();
    let build = Build::new(folder.path().join("store"), &context).offline();
    (folder, build)
}

#[test]
fn what_was_built_is_planned_as_cached_and_found_by_its_name() {
    let (folder, build) =
        project("FROM scratch AS one\nCOPY a /a\nFROM scratch AS two\nCOPY --from=one /a /b\nLABEL k=v\n");
    let build = build.tag("here/app:1");
    let outlooks =
        |build: &Build| build.plan().unwrap().into_iter().map(|step| step.outlook).collect::<Vec<_>>();
    assert!(outlooks(&build).iter().any(|outlook| matches!(outlook, Outlook::Run { .. })));
    let mut told = Vec::new();
    let built = build.run(|event| told.push(event)).unwrap();
    assert_eq!((built.layers, built.ran, built.cached), (1, 2, 0));
    let Some(Event::Planned(steps)) = told.iter().find(|event| matches!(event, Event::Planned(_))) else {
        panic!("the steps are told first: {told:?}");
    };
    for event in &told {
        if let Event::Started { step } | Event::Finished { step, .. } = event {
            assert!(*step < steps.len() + 1, "{event:?}: {steps:?}");
        }
    }
    let planned = outlooks(&build);
    assert!(planned.contains(&Outlook::Cached) && planned.contains(&Outlook::Configuration), "{planned:?}");
    assert_eq!(build.run(|_| {}).unwrap().digest, built.digest);
    let images = Images::open(folder.path().join("store")).unwrap();
    assert_eq!(images.list().unwrap(), [(built.names[0].clone(), built.digest.clone())]);
    let image = images.inspect("here/app:1").unwrap();
    let [platform] = image.platforms.as_slice() else { panic!("{image:?}") };
    assert_eq!(platform.labels, [("k".to_owned(), "v".to_owned())]);
    assert_eq!(platform.layers.iter().map(|layer| layer.size_bytes).sum::<u64>(), built.size_bytes);
    assert!(platform.config.as_ref().is_some_and(|config| config.contains("\"k\":\"v\"")), "{image:?}");
    let missing = images.inspect("here/other").unwrap_err();
    assert!(missing.to_string().contains("here/other"), "{missing}");
}

#[test]
fn errors_and_warnings_say_where() {
    let (_folder, build) = project("FROM scratch as one\nCOPY none /\n");
    let mut warned = Vec::new();
    let error = build
        .run(|event| warned.extend(if let Event::Warning(message) = event { Some(message) } else { None }));
    let error = error.unwrap_err();
    let [message] = error.messages() else { panic!("{error}") };
    assert!(message.is_error && message.text.contains("none"), "{message:?}");
    assert_eq!(message.place.as_ref().map(|place| place.1), Some(2), "{message:?}");
    let casing = warned.iter().find(|message| message.check.as_deref() == Some("FromAsCasing"));
    assert!(casing.is_some_and(|message| !message.is_error), "{warned:?}");
    let refused = build.tag("Not A Name").run(|_| {}).unwrap_err();
    assert!(refused.to_string().starts_with("`Not A Name`: "), "{refused}");
}

#[test]
fn another_thread_ends_a_build() {
    let (_folder, build) = project("FROM scratch\nCOPY a /\n");
    build.stopper()();
    assert!(build.run(|_| {}).is_err());
}
