//! Which instructions make layers, and how history, layers and diff ids belong together.

use crate::support::base::busybox_registry;
use crate::support::layout::LayerOnDisk;
use crate::support::program::World;
use crate::support::tools;

#[test]
fn one_layer_for_each_change_of_files_and_none_for_configuration() {
    let registry = busybox_registry();
    let world = World::new();
    world.file("run.sh", "#!/bin/sh\n");
    world.dockerfile(&format!(
        "FROM {}/busybox\n\
         ADD run.sh /\n\
         VOLUME /data\n\
         ENV MODE=fast\n\
         RUN echo made >/made\n\
         LABEL a=b\n\
         EXPOSE 80\n\
         WORKDIR /work\n\
         USER app\n\
         STOPSIGNAL SIGINT\n\
         COPY run.sh .\n\
         ENTRYPOINT [\"/bin/sh\"]\n\
         CMD [\"./run.sh\"]\n",
        registry.host()
    ));
    let ran = world.build(["-t", "chain"]).run();
    let image = world.images().image(&ran.digest());
    assert_eq!(
        image.history(),
        [
            "busybox",
            "ADD run.sh /",
            "VOLUME [/data] (empty)",
            "ENV MODE=fast (empty)",
            "RUN /bin/sh -c echo made >/made",
            "LABEL a=b (empty)",
            "EXPOSE [80/tcp] (empty)",
            "WORKDIR /work",
            "USER app (empty)",
            "STOPSIGNAL SIGINT (empty)",
            "COPY run.sh .",
            "ENTRYPOINT [\"/bin/sh\"] (empty)",
            "CMD [\"./run.sh\"] (empty)",
        ]
    );
    let layers: Vec<Vec<String>> = image.layers[1..].iter().map(LayerOnDisk::listing).collect();
    assert_eq!(
        layers,
        [
            vec!["run.sh file 0644 0:0 10"],
            vec!["made file 0644 0:0 5"],
            vec!["work dir 0755 0:0 0"],
            vec!["work/run.sh file 0644 0:0 10"],
        ]
    );
    let config = image.config.config().clone().unwrap();
    assert_eq!(config.volumes().as_ref().unwrap(), &["/data"]);
    assert_eq!(config.exposed_ports().as_ref().unwrap(), &["80/tcp"]);
    assert_eq!(config.labels().as_ref().unwrap()["a"], "b");
    assert_eq!(config.user().as_deref(), Some("app"));
    assert_eq!(config.working_dir().as_deref(), Some("/work"));
    assert_eq!(config.stop_signal().as_deref(), Some("SIGINT"));
    assert_eq!(config.entrypoint().as_ref().unwrap(), &["/bin/sh"]);
    assert_eq!(config.cmd().as_ref().unwrap(), &["./run.sh"]);
    let env = config.env().clone().unwrap();
    assert!(env.contains(&"MODE=fast".to_owned()), "{env:?}");
}

#[test]
fn a_change_of_configuration_keeps_every_layer() {
    let world = World::new();
    world.file("run.sh", "#!/bin/sh\n");
    world.dockerfile("FROM scratch\nADD run.sh /\nVOLUME /data\nCMD [\"./run.sh\"]\n");
    let first = world.build(["-t", "first"]).run();
    world.dockerfile("FROM scratch\nADD run.sh /\nVOLUME /other\nCMD [\"./run.sh\", \"-v\"]\n");
    let second = world.build(["-t", "second"]).run();
    assert_eq!(second.outcome("ADD run.sh"), "CACHED");
    assert_ne!(second.digest(), first.digest());
    let (first, second) = (world.images().image(&first.digest()), world.images().image(&second.digest()));
    assert_eq!(second.manifest.layers(), first.manifest.layers());
}

#[test]
fn an_image_of_configuration_alone_has_no_blob() {
    let world = World::new();
    world.dockerfile("FROM scratch\nCMD [\"/nothing\"]\n");
    let ran = world.build(["-t", "empty"]).run();
    let image = world.images().image(&ran.digest());
    assert!(image.layers.is_empty());
    assert_eq!(image.history(), ["CMD [\"/nothing\"] (empty)"]);
}

#[test]
fn deleted_files_are_whiteouts_in_their_layer() {
    let registry = busybox_registry();
    let world = World::new();
    world.dockerfile(&format!(
        "FROM {}/busybox\n\
         RUN mkdir -p /d/e && echo x >/d/e/f && echo y >/d/g\n\
         RUN rm -r /d/e && rm /etc/group\n\
         RUN rm -r /d && mkdir /d && echo z >/d/new\n",
        registry.host()
    ));
    let ran = world.build(["-t", "whiteouts"]).run();
    let image = world.images().image(&ran.digest());
    let names = |layer: usize| -> Vec<String> {
        image.layers[layer].entries.iter().map(|(path, _)| path.clone()).collect()
    };
    assert!(names(2).contains(&"d/.wh.e".to_owned()), "{:?}", names(2));
    assert!(names(2).contains(&"etc/.wh.group".to_owned()), "{:?}", names(2));
    let files = image.files();
    assert!(files.contains_key("d/new"));
    assert!(!files.contains_key("d/g") && !files.contains_key("d/e/f") && !files.contains_key("etc/group"));
}

#[test]
fn skopeo_reads_the_same() {
    let world = World::new();
    world.file("run.sh", "#!/bin/sh\n");
    world.dockerfile("FROM scratch\nADD run.sh /\nLABEL who=me\nVOLUME /data\nCMD [\"./run.sh\"]\n");
    let ran = world.build(["-t", "a"]).run();
    let image = world.images().image(&ran.digest());
    let read = tools::skopeo_inspect(&world.store(), "docker.io/library/a:latest");
    assert_eq!(read["Digest"], ran.digest());
    assert_eq!(read["Layers"][0], image.manifest.layers()[0].digest().to_string());
    assert_eq!(read["Layers"].as_array().unwrap().len(), 1);
    assert_eq!(read["Labels"]["who"], "me");
    let name = format!("oci:{}:docker.io/library/a:latest", world.store().display());
    let config = tools::json("skopeo", ["inspect", "--config", &name]);
    assert_eq!(config["rootfs"]["diff_ids"][0], image.layers[0].diff_id);
    assert_eq!(config["history"].as_array().unwrap().len(), 4);
    assert_eq!(config["history"][2]["empty_layer"], true);
}
