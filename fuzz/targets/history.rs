//! Any bytes as the record of a build, which other machines give away: what is read is written as the same, and all that looks back at a build comes
//! to an end: names, provenance, traces, origins, timeline, misses, advice.
#![no_main]

use libfuzzer_sys::fuzz_target;
use rbuild::insight::advice::copy_first;
use rbuild::insight::missed::misses;
use rbuild::insight::place::is_same;
use rbuild::insight::timeline::Timeline;
use rbuild::inventory::origin::Origins;
use rbuild::oci::{Descriptor, DiffId, Digest, Layer, MediaType};
use rbuild::record::kept::parse;
use rbuild::record::provenance::{Mode, Subject};

fuzz_target!(|bytes: &[u8]| {
    let Ok(record) = parse(bytes) else { return };
    let text = serde_json::to_vec(&record).expect("a record can be written");
    assert!(parse(&text).is_ok_and(|again| again == record));
    let _ = (record.title(), record.repository().len(), is_same(&record, &record));
    let timeline = Timeline::of(&record);
    assert!(timeline.critical.len() <= record.steps.len());
    let found = misses(&record, Some(&record), &|_| None);
    assert!(found.len() <= record.steps.len());
    let _ = copy_first(&[record.clone(), record.clone(), record.clone()]);
    let made = record.steps.iter().filter_map(|step| step.layer.as_ref());
    let layers: Vec<Layer> = made
        .filter_map(|layer| {
            let digest: Digest = layer.digest.parse().ok()?;
            let descriptor = Descriptor::new(MediaType::LAYER, digest, layer.size);
            Some(Layer { descriptor, diff_id: DiffId(layer.diff_id.parse().ok()?) })
        })
        .take(100)
        .collect();
    for (at, target) in record.targets.iter().enumerate().take(3) {
        let origins = Origins::of(&record, at, &layers);
        assert_eq!(origins.of_layer.len(), layers.len());
        origins.sources.iter().for_each(|source| assert!(!source.words().is_empty()));
        let subject = Subject { record: &record, target, image: None };
        let _ = (subject.slsa_1(), subject.slsa_02(Mode::Max));
    }
});
