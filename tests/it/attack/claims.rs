//! An image whose configuration says that a blob of its own holds another image's files. What is known of those files, by their diff id, must
//! not be believed of that blob, nor what the blob holds be taken for them.

use crate::support::image::{TestImage, TestLayer};
use crate::support::program::World;
use crate::support::registry::Registry;

#[test]
fn a_layer_that_claims_to_be_another_is_not_read() {
    let registry = Registry::start();
    let host = registry.host();
    let good = TestLayer::files(&[("x", "good"), ("y", "fine")]);
    let evil = TestLayer { diff_id: good.diff_id, ..TestLayer::files(&[("x", "evil"), ("y", "lies")]) };
    // The same blob twice, once as what it is.
    let own = TestLayer::files(&[("x", "evil"), ("y", "lies")]);
    registry.push(&TestImage::new("linux/amd64", vec![own, evil.clone()]), "twice", "1");
    registry.push(&TestImage::new("linux/amd64", vec![good]), "good", "1");
    registry.push(&TestImage::new("linux/amd64", vec![evil]), "evil", "1");
    let copies =
        |image: &str, file: &str| format!("FROM scratch\nCOPY --from={host}/{image}:1 /{file} /got\n");
    let based = format!("FROM {host}/good:1\nCOPY Dockerfile /new/\n");
    // What is known of the good layer when the other comes: its files' digests, its index, nothing.
    for before in [Some(copies("good", "y")), Some(based), None] {
        let world = World::new();
        if let Some(before) = &before {
            world.dockerfile(before).build(["-t", "before"]).run();
        }
        for image in ["twice", "evil"] {
            let told = world.dockerfile(&copies(image, "x")).build(["-t", "evil"]).status(1).run().stderr;
            assert!(told.contains("but the image's configuration says"), "{image} {before:?}: {told}");
        }
        // Nothing of it is found under the good one's name, in this build and the next.
        for _ in 0..2 {
            let digest = world.dockerfile(&copies("good", "x")).build(["-t", "good"]).run().digest();
            assert_eq!(world.images().image(&digest).files()["got"].content, b"good", "{before:?}");
        }
    }
}
