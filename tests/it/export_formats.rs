//! Export: what it writes, other programs read.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::Command;

use rbuild::export::{self, Along, Error, LocalMode, Output, OutputError, Sink, Target};
use rbuild::layer::Compression;
use rbuild::oci::{
    Annotation, AnnotationLevel, Descriptor, DiffId, Digest, History, ImageConfig, Layer, MediaType,
    Platform, Reference,
    image::{self, Dialect},
    rfc3339,
};
use rbuild::report::Events;
use rbuild::store::Store;

struct Fixture {
    dir: tempfile::TempDir,
    store: Store,
    image: Descriptor,
    names: Vec<Reference>,
}

fn tar_of(files: &[(&str, &str)]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (path, content) in files {
        let mut header = tar::Header::new_ustar();
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        builder.append_data(&mut header, path, content.as_bytes()).unwrap();
    }
    builder.into_inner().unwrap()
}

fn layer(store: &Store, files: &[(&str, &str)]) -> Layer {
    let tar = tar_of(files);
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(&tar).unwrap();
    let blob = gzip.finish().unwrap();
    let digest = store.put_blob(&blob).unwrap();
    let descriptor = Descriptor::new(MediaType::DOCKER_LAYER_GZIP, digest, blob.len() as u64);
    Layer { descriptor, diff_id: DiffId(Digest::of(&tar)) }
}

fn build(store: &Store, platform: &Platform, layers: &[Layer]) -> Descriptor {
    let mut config = ImageConfig {
        os: platform.os.clone(),
        architecture: platform.architecture.clone(),
        variant: platform.variant.clone(),
        ..ImageConfig::default()
    };
    config.config.env = vec!["PATH=/bin".to_owned(), "HTML=<a&b>".to_owned()];
    config.config.cmd = Some(vec!["/hello".to_owned()]);
    config.config.labels.insert("who".to_owned(), "me".to_owned());
    let history = layers.iter().map(|_| History {
        created: Some(rfc3339(0)),
        created_by: Some("COPY . . # rbuild".to_owned()),
        ..History::default()
    });
    let made =
        image::assemble(config, history.collect(), layers, 1_700_000_000, (&BTreeMap::new(), Dialect::Oci));
    store.put_blob(&made.config_bytes).unwrap();
    store.put_blob(&made.manifest_bytes).unwrap();
    made.manifest_descriptor
}

fn fixture() -> Fixture {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(&dir.path().join("store")).unwrap();
    let layers = [
        layer(&store, &[("hello", "old"), ("etc/passwd", "root:x:0:0::/:\n"), ("gone", "x")]),
        layer(&store, &[(".wh.gone", ""), ("hello", "new")]),
    ];
    let image = build(&store, &Platform::host(), &layers);
    let names = vec!["localhost:5000/team/app:1.0".parse().unwrap()];
    Fixture { dir, store, image, names }
}

impl Fixture {
    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn write(&self, output: &str) -> Result<(), Error> {
        let output = Output::parse(&output.replace("DIR", self.dir.path().to_str().unwrap())).unwrap();
        export::write(
            &self.store,
            &self.image,
            (&self.names, &Along::default()),
            (&[output], None),
            &Events::silent(),
        )
    }
}

/// Runs a program that the tests need, and gives what it printed.
fn run(program: &str, args: &[&str]) -> String {
    let output = Command::new(program).args(args).output().unwrap_or_else(|e| panic!("{program}: {e}"));
    let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{program} {args:?}: {}", text(&output.stderr));
    text(&output.stdout)
}

fn json(text: &str) -> serde_json::Value {
    serde_json::from_str(text).unwrap()
}

fn names_in_tar(path: &Path) -> Vec<String> {
    let mut archive = tar::Archive::new(File::open(path).unwrap());
    let entries = archive.entries().unwrap().map(|e| {
        let e = e.unwrap();
        assert_eq!((e.header().mtime().unwrap(), e.header().uid().unwrap()), (0, 0));
        e.path().unwrap().to_str().unwrap().to_owned()
    });
    entries.collect()
}

fn check_inspection(text: &str) {
    let seen = json(text);
    assert_eq!(seen["Created"], "2023-11-14T22:13:20Z");
    assert_eq!(seen["Labels"]["who"], "me");
    assert_eq!(seen["Layers"].as_array().unwrap().len(), 2);
    assert_eq!(seen["Env"][1], "HTML=<a&b>");
}

#[test]
fn skopeo_reads_the_store_itself() {
    let f = fixture();
    f.store.set_tag(&f.names[0], &f.image).unwrap();
    let root = f.store.root().display();
    check_inspection(&run("skopeo", &["inspect", &format!("oci:{root}:localhost:5000/team/app:1.0")]));
}

#[test]
fn skopeo_and_umoci_read_a_layout() {
    let f = fixture();
    f.write("type=oci,tar=false,dest=DIR/layout").unwrap();
    let layout = f.path("layout");
    let reference = format!("{}:1.0", layout.display());
    check_inspection(&run("skopeo", &["inspect", &format!("oci:{reference}")]));
    let bundle = f.path("bundle");
    run("umoci", &["unpack", "--rootless", "--image", &reference, bundle.to_str().unwrap()]);
    assert_eq!(fs::read_to_string(bundle.join("rootfs/hello")).unwrap(), "new");
    assert!(!bundle.join("rootfs/gone").exists());
    let hidden = fs::read_dir(&layout).unwrap().filter_map(Result::ok).map(|e| e.file_name());
    assert!(hidden.into_iter().all(|n| !n.to_string_lossy().starts_with('.')));
}

#[test]
fn a_layout_that_exists_is_added_to() {
    let mut f = fixture();
    f.write("type=oci,tar=false,dest=DIR/layout").unwrap();
    let index = || json(&fs::read_to_string(f.path("layout/index.json")).unwrap());
    let once = index();
    f.write("type=oci,tar=false,dest=DIR/layout").unwrap();
    assert_eq!(index(), once, "the same name is not there twice");
    let annotations = &once["manifests"][0]["annotations"];
    assert_eq!(annotations["org.opencontainers.image.ref.name"], "1.0");
    assert_eq!(annotations["io.containerd.image.name"], "localhost:5000/team/app:1.0");
    f.write("type=oci,tar=false,dest=DIR/layout,name=other,annotation-manifest-descriptor.a=b").unwrap();
    let index = json(&fs::read_to_string(f.path("layout/index.json")).unwrap());
    assert_eq!(index["manifests"].as_array().unwrap().len(), 2);
    assert_eq!(
        index["manifests"][1]["annotations"]["io.containerd.image.name"],
        "docker.io/library/other:latest"
    );
    assert_eq!(index["manifests"][1]["annotations"]["a"], "b");

    f.names.clear();
    f.write("type=oci,tar=false,dest=DIR/untagged").unwrap();
    f.write("type=oci,tar=false,dest=DIR/untagged").unwrap();
    let index = json(&fs::read_to_string(f.path("untagged/index.json")).unwrap());
    assert_eq!(index["manifests"].as_array().unwrap().len(), 1);
    assert!(index["manifests"][0].get("annotations").is_none());
    run("skopeo", &["inspect", &format!("oci:{}", f.path("untagged").display())]);
}

#[test]
fn a_damaged_layout_is_mended_and_leaves_the_store_whole() {
    let f = fixture();
    f.write("type=oci,tar=false,dest=DIR/layout").unwrap();
    let before = blobs_of(&f.path("layout/blobs/sha256"));
    for (name, bytes) in &before {
        // In place, by a program that knows nothing of shared files.
        fs::write(f.path("layout/blobs/sha256").join(name), vec![b'x'; bytes.len()]).unwrap();
    }
    // The store notices instead of passing it on.
    assert!(f.write("type=oci,tar=false,dest=DIR/other").is_err());
    let f = fixture();
    f.write("type=oci,tar=false,dest=DIR/layout").unwrap();
    let before = blobs_of(&f.path("layout/blobs/sha256"));
    for (name, bytes) in &before {
        let path = f.path("layout/blobs/sha256").join(name);
        fs::remove_file(&path).unwrap();
        fs::write(&path, vec![b'x'; bytes.len()]).unwrap();
    }
    f.write("type=oci,tar=false,dest=DIR/layout").unwrap();
    assert_eq!(blobs_of(&f.path("layout/blobs/sha256")), before);
}

fn blobs_of(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let entries = fs::read_dir(folder).unwrap().map(|e| e.unwrap().path());
    entries
        .map(|path| (path.file_name().unwrap().to_str().unwrap().to_owned(), fs::read(&path).unwrap()))
        .collect()
}

#[test]
fn skopeo_reads_archives_of_both_types() {
    let f = fixture();
    f.write("type=oci,dest=DIR/a.tar").unwrap();
    f.write("type=docker,dest=DIR/d.tar").unwrap();
    let archive = f.path("a.tar");
    check_inspection(&run("skopeo", &["inspect", &format!("oci-archive:{}:1.0", archive.display())]));
    check_inspection(&run("skopeo", &["inspect", &format!("docker-archive:{}", archive.display())]));
    let docker = f.path("d.tar");
    let name = format!("docker-archive:{}:localhost:5000/team/app:1.0", docker.display());
    check_inspection(&run("skopeo", &["inspect", &name]));
    let blobs = 4;
    assert_eq!(names_in_tar(&archive).len(), 2 + blobs + 3);
    assert_eq!(
        names_in_tar(&docker)[2 + blobs..],
        ["index.json", "manifest.json", "oci-layout", "repositories"]
    );
    // A copy checks every digest, and that the layers fit the configuration.
    let copy = f.path("copy");
    run(
        "skopeo",
        &["copy", &format!("docker-archive:{}", docker.display()), &format!("dir:{}", copy.display())],
    );
}

#[test]
fn podman_loads_archives() {
    let f = fixture();
    for (output, file) in [("type=oci,dest=DIR/a.tar", "a.tar"), ("type=docker,dest=DIR/d.tar", "d.tar")] {
        f.write(output).unwrap();
        let root = f.path(&format!("podman-{file}"));
        let podman = |args: &[&str]| {
            let (graph, runroot) = (root.join("graph"), root.join("run"));
            let storage = [
                "--root",
                graph.to_str().unwrap(),
                "--runroot",
                runroot.to_str().unwrap(),
                "--storage-driver",
                "vfs",
            ];
            run("podman", &[&storage, args].concat())
        };
        let loaded = podman(&["load", "-i", f.path(file).to_str().unwrap()]);
        assert!(loaded.contains("localhost:5000/team/app:1.0"), "{loaded}");
        let images = podman(&["images", "--format", "{{.Repository}}:{{.Tag}}"]);
        assert_eq!(images.trim(), "localhost:5000/team/app:1.0");
    }
}

#[test]
fn equal_images_give_equal_archives() {
    let (one, two) = (fixture(), fixture());
    for f in [&one, &two] {
        f.write("type=oci,dest=DIR/a.tar").unwrap();
    }
    assert_eq!(fs::read(one.path("a.tar")).unwrap(), fs::read(two.path("a.tar")).unwrap());
}

#[test]
fn everything_parses_as_the_specification_has_it() {
    let f = fixture();
    f.write("type=oci,tar=false,dest=DIR/layout").unwrap();
    let layout = f.path("layout");
    oci_spec::image::OciLayout::from_file(layout.join("oci-layout")).unwrap();
    let index = oci_spec::image::ImageIndex::from_file(layout.join("index.json")).unwrap();
    let blob = |digest: &str| layout.join("blobs").join(digest.replace(':', "/"));
    let manifest = &index.manifests()[0];
    assert_eq!(manifest.platform().as_ref().unwrap().os().to_string(), "linux");
    let manifest = oci_spec::image::ImageManifest::from_file(blob(manifest.digest().as_ref())).unwrap();
    assert_eq!(manifest.media_type().as_ref().unwrap().to_string(), MediaType::MANIFEST.as_str());
    for layer in manifest.layers() {
        assert_eq!(layer.media_type().to_string(), MediaType::LAYER_GZIP.as_str());
    }
    let config = blob(manifest.config().digest().as_ref());
    let config = oci_spec::image::ImageConfiguration::from_file(config).unwrap();
    assert_eq!(config.rootfs().diff_ids().len(), 2);
    assert_eq!(config.history().as_ref().unwrap().len(), 2);
}

#[test]
fn several_platforms_go_together() {
    let mut f = fixture();
    let arm: Platform = "linux/arm/v7".parse().unwrap();
    let files = layer(&f.store, &[("hello", "arm")]);
    let other = build(&f.store, &arm, &[files]);
    let (bytes, index) =
        image::assemble_index(vec![other, f.image.clone()], (&BTreeMap::new(), Dialect::Oci));
    f.store.put_blob(&bytes).unwrap();
    f.image = index;
    f.write("type=oci,dest=DIR/a.tar").unwrap();
    let reference = format!("oci-archive:{}:1.0", f.path("a.tar").display());
    check_inspection(&run("skopeo", &["inspect", &reference]));
    let arm = run("skopeo", &["inspect", "--override-arch", "arm", "--override-variant", "v7", &reference]);
    assert_eq!(json(&arm)["Architecture"], "arm");
    check_inspection(&run("skopeo", &["inspect", &format!("docker-archive:{}", f.path("a.tar").display())]));
    let text = f.write("type=docker,dest=DIR/d.tar").unwrap_err().to_string();
    assert!(text.contains("holds one platform, and this image has 2"), "{text}");
    assert!(!f.path("d.tar").exists());
}

#[test]
fn a_failed_export_leaves_the_old_file() {
    let f = fixture();
    fs::write(f.path("a.tar"), "old").unwrap();
    let missing = layer(&f.store, &[("x", "y")]).descriptor.digest;
    let image = build(&f.store, &Platform::host(), &[layer(&f.store, &[("x", "y")])]);
    fs::remove_file(f.store.blob_path(&missing)).unwrap();
    let output = Output::new(Target::OciArchive(Sink::File(f.path("a.tar"))));
    let text =
        export::write(&f.store, &image, (&[], &Along::default()), (&[output], None), &Events::silent())
            .unwrap_err()
            .to_string();
    assert!(text.contains(&missing.to_string()), "{text}");
    assert_eq!(fs::read_to_string(f.path("a.tar")).unwrap(), "old");
}

#[test]
fn destinations_are_treated_as_what_they_are() {
    let f = fixture();
    fs::create_dir(f.path("folder")).unwrap();
    let text = f.write("type=oci,dest=DIR/folder").unwrap_err().to_string();
    assert!(text.contains("is a directory") && text.contains("tar=false"), "{text}");
    let text = f.write("type=oci,dest=DIR/no/such/a.tar").unwrap_err().to_string();
    assert!(text.contains("no/such/a.tar"), "{text}");
    let text = f.write("type=oci,tar=false,dest=DIR/store").unwrap_err().to_string();
    assert!(text.contains("is a store of rbuild"), "{text}");
    fs::create_dir(f.path("layout")).unwrap();
    fs::write(f.path("layout/index.json"), "{]").unwrap();
    let text = f.write("type=oci,tar=false,dest=DIR/layout").unwrap_err().to_string();
    assert!(text.contains("layout/index.json` is no index"), "{text}");

    fs::write(f.path("real.tar"), "").unwrap();
    std::os::unix::fs::symlink("real.tar", f.path("link.tar")).unwrap();
    f.write("type=oci,dest=DIR/link.tar").unwrap();
    assert!(fs::symlink_metadata(f.path("link.tar")).unwrap().is_symlink());
    assert!(fs::metadata(f.path("real.tar")).unwrap().len() > 5000);
    f.write("type=oci,dest=/dev/null").unwrap();

    rustix::fs::mknodat(
        rustix::fs::CWD,
        f.path("pipe"),
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR,
        0,
    )
    .unwrap();
    let pipe = f.path("pipe");
    let reader = std::thread::spawn(move || {
        let mut bytes = Vec::new();
        File::open(pipe).unwrap().read_to_end(&mut bytes).unwrap();
        bytes
    });
    f.write("type=oci,dest=DIR/pipe").unwrap();
    assert_eq!(reader.join().unwrap(), fs::read(f.path("real.tar")).unwrap());
}

#[test]
fn outputs_are_read_as_docker_reads_them() {
    let target = |text: &str| Output::parse(text).unwrap().target;
    let file = |path: &str| Sink::File(PathBuf::from(path));
    let local = |dest: &str, mode| Target::LocalDirectory { dest: PathBuf::from(dest), mode, split: None };
    assert_eq!(target("out"), local("out", LocalMode::Copy));
    assert_eq!(target("dest=x"), local("dest=x", LocalMode::Copy));
    assert_eq!(target("-"), Target::Tar { sink: Sink::Stdout, split: None });
    assert_eq!(target("type=local,dest=o,mode=delete"), local("o", LocalMode::Delete));
    assert_eq!(target("type=oci"), Target::OciArchive(Sink::Stdout));
    assert_eq!(target("type=oci,dest=-"), Target::OciArchive(Sink::Stdout));
    assert_eq!(target("type=oci,dest=a.tar"), Target::OciArchive(file("a.tar")));
    assert_eq!(target("TYPE=oci,Dest=a.tar"), Target::OciArchive(file("a.tar")));
    assert_eq!(target("type=oci,tar=false,dest=d"), Target::OciDirectory(PathBuf::from("d")));
    assert_eq!(target("type=docker,\"dest=a,b.tar\""), Target::DockerArchive(file("a,b.tar")));
    assert_eq!(target("type=tar,dest=r.tar"), Target::Tar { sink: file("r.tar"), split: None });
    assert_eq!(target("type=image,push=true"), Target::Image { push: true, by_digest: false });
    assert_eq!(target("type=registry"), Target::Image { push: true, by_digest: false });
    let by_digest =
        Output::parse("type=image,push-by-digest=true,name-canonical=true,push=true,name=h:1/a").unwrap();
    assert!(by_digest.pushes_by_digest() && by_digest.names[0].tag().is_none());
    assert_eq!(target("type=cacheonly"), Target::CacheOnly);
    let full = Output::parse(
        "type=oci,dest=x,\"name=a,b:2\",compression=zstd,compression-level=19,force-compression=true,\
         rewrite-timestamp=true,oci-mediatypes=true,annotation.k=v=w,annotation-index.i=1",
    )
    .unwrap();
    assert_eq!(
        full.names.iter().map(Reference::full).collect::<Vec<_>>(),
        ["docker.io/library/a:latest", "docker.io/library/b:2"]
    );
    assert_eq!(full.layers.compression, Some(Compression::Zstd { level: 19 }));
    let lazy = Output::parse("type=registry,name=a,compression=estargz,compression-level=9").unwrap().layers;
    assert_eq!(lazy.compression, Some(Compression::Estargz { level: 9 }));
    assert!(full.layers.force && full.layers.rewrite_timestamp);
    let at = |level| Annotation::at(&full.annotations, level, None);
    assert_eq!(at(AnnotationLevel::Manifest)["k"], "v=w");
    assert_eq!(at(AnnotationLevel::Index)["i"], "1");
}

#[test]
fn wrong_outputs_are_explained() {
    for (text, want) in [
        ("", "names no type"),
        ("type=", "there is no output type ``"),
        ("type=ocl,dest=x", "there is no output type `ocl`; did you mean `oci`?; there are oci, docker"),
        ("dest=x,tar=false", "names no type"),
        ("type=oci,dset=x", "type=oci has no key `dset`; did you mean `dest`?"),
        ("type=local,dest=x,compression=gzip", "type=local has no key `compression`"),
        ("type=oci,x", "`x` in `-o type=oci,x` is not of the form key=value"),
        ("type=oci,\"name=a", "missing \" in quoted-field"),
        ("type=oci,name=a\"b", "bare \" in non-quoted field"),
        ("type=local", "type=local needs dest=DIR"),
        ("type=local,dest=-", "type=local needs dest=DIR"),
        ("type=oci,tar=false", "tar=false needs dest=DIR"),
        ("type=oci,tar=maybe", "`maybe` is no value for `tar`: it is true or false"),
        (
            "type=oci,compression=nydus",
            "`nydus` is no value for `compression`: it is gzip, estargz, zstd or uncompressed",
        ),
        ("type=oci,compression=estargz,compression-level=10", "with compression=estargz it is at most 9"),
        ("type=oci,compression-level=10", "with compression=gzip it is at most 9"),
        ("type=oci,compression-level=-2", "with compression=gzip it is at least 0, or -1 for the usual one"),
        (
            "type=oci,compression=uncompressed,compression-level=1",
            "with compression=uncompressed it is at most 0",
        ),
        ("type=oci,compression-level=x", "`x` is no value for `compression-level`"),
        ("type=oci,name=A", "`A` is no value for `name`"),
        ("type=docker,oci-mediatypes=maybe", "`maybe` is no value for `oci-mediatypes`"),
        ("type=docker,dest=x,context=remote", "`context` is not possible here: it says which docker"),
        ("type=image,push-by-digest=true,name=a:1", "with push-by-digest=true it has no tag"),
        ("type=oci,push-by-digest=true", "type=oci has no key `push-by-digest`"),
        ("type=oci,annotation[a/b/c/d].a=b", "`a/b/c/d` is no platform"),
        ("type=oci,annotation-foo.a=b", "there is no level `foo`"),
    ] {
        let error: OutputError = Output::parse(text).unwrap_err();
        assert!(error.to_string().contains(want), "{text}: {error}");
    }
}

/// Layers with everything that a root file system can hold.
fn full_fixture() -> Fixture {
    let mut f = fixture();
    let mut builder = tar::Builder::new(Vec::new());
    let mut add = |path: &str, kind: tar::EntryType, mode: u32, target: &str, content: &[u8]| {
        let mut header = tar::Header::new_ustar();
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_uid(1000);
        header.set_gid(1000);
        header.set_mtime(1_600_000_000);
        header.set_size(content.len() as u64);
        header.set_device_major(1).unwrap();
        header.set_device_minor(3).unwrap();
        if !target.is_empty() {
            header.set_link_name(target).unwrap();
        }
        builder.append_data(&mut header, path, content).unwrap();
    };
    add("closed/", tar::EntryType::Directory, 0o500, "", b"");
    add("closed/data", tar::EntryType::Regular, 0o440, "", b"data");
    add("a-link", tar::EntryType::Link, 0o440, "closed/data", b"");
    add("sym", tar::EntryType::Symlink, 0o777, "/closed/data", b"");
    add("fifo", tar::EntryType::Fifo, 0o600, "", b"");
    add("null", tar::EntryType::Char, 0o666, "", b"");
    add("su", tar::EntryType::Regular, 0o4755, "", b"#!");
    add("empty", tar::EntryType::Regular, 0o644, "", b"");
    let tar = builder.into_inner().unwrap();
    let digest = f.store.put_blob(&tar).unwrap();
    let plain = Layer {
        descriptor: Descriptor::new(MediaType::LAYER, digest, tar.len() as u64),
        diff_id: DiffId(digest),
    };
    let layers = [
        layer(&f.store, &[("hello", "old"), ("etc/passwd", "root:x:0:0::/:\n"), ("gone", "x")]),
        plain,
        layer(&f.store, &[(".wh.gone", ""), ("hello", "new")]),
    ];
    f.image = build(&f.store, &Platform::host(), &layers);
    f
}

/// Every path below `dir` with type, mode, size and what it points to.
fn listing(dir: &Path) -> Vec<String> {
    use std::os::unix::fs::{FileTypeExt, MetadataExt};
    let mut lines = Vec::new();
    for entry in walkdir::WalkDir::new(dir).sort_by_file_name().min_depth(1) {
        let entry = entry.unwrap();
        let meta = entry.metadata().unwrap();
        let kind = meta.file_type();
        let (word, detail) = match () {
            () if kind.is_dir() => ("dir", String::new()),
            () if kind.is_symlink() => ("link", fs::read_link(entry.path()).unwrap().display().to_string()),
            () if kind.is_fifo() => ("fifo", String::new()),
            () if kind.is_char_device() => ("char", String::new()),
            () => ("file", fs::read_to_string(entry.path()).unwrap_or_default().trim().to_owned()),
        };
        let path = entry.path().strip_prefix(dir).unwrap().display();
        lines.push(
            format!("{word} {:04o} {} {path} {detail}", meta.mode() & 0o7777, meta.mtime()).trim().to_owned(),
        );
    }
    lines
}

#[test]
fn local_directories_hold_the_merged_root() {
    use std::os::unix::fs::MetadataExt;
    let f = full_fixture();
    f.write("type=local,dest=DIR/out").unwrap();
    let is_root = rustix::process::geteuid().is_root();
    let mut want = vec![
        "file 0440 1600000000 a-link data",
        "dir 0500 1600000000 closed",
        "file 0440 1600000000 closed/data data",
        "file 0644 1600000000 empty",
        "dir 0755 0 etc",
        "file 0644 0 etc/passwd root:x:0:0::/:",
        "fifo 0600 1600000000 fifo",
        "file 0644 0 hello new",
        "char 0666 1600000000 null",
        "file 0755 1600000000 su #!",
        "link 0777 1600000000 sym /closed/data",
    ];
    want.retain(|line| is_root || !line.starts_with("char"));
    assert_eq!(listing(&f.path("out")), want);
    let inode = |path: &str| fs::metadata(f.path("out").join(path)).unwrap().ino();
    assert_eq!(inode("a-link"), inode("closed/data"));
    assert_eq!(fs::metadata(f.path("out/hello")).unwrap().uid(), rustix::process::geteuid().as_raw());
    assert_eq!(
        fs::read_dir(f.store.root().join("rbuild/tmp"))
            .unwrap()
            .flat_map(|d| fs::read_dir(d.unwrap().path()).unwrap())
            .count(),
        1
    );
}

#[test]
fn other_users_can_export_too() {
    let f = full_fixture();
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let out = f.path("out");
    fs::create_dir(&out).unwrap();
    for path in walkdir::WalkDir::new(f.dir.path()) {
        std::os::unix::fs::lchown(path.unwrap().path(), Some(65534), Some(65534)).unwrap();
    }
    let exe = f.path("it");
    crate::support::copy_of_this_program(&exe);
    let mut child = Command::new(&exe);
    child.args(["--exact", "export_formats::child_exports", "--nocapture"]);
    child
        .env("RBUILD_TEST_EXPORT", f.dir.path())
        .env("RBUILD_TEST_IMAGE", serde_json::to_string(&f.image).unwrap());
    std::os::unix::process::CommandExt::uid(&mut child, 65534);
    let output = child.output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert_eq!(text.matches("done Ok(())").count(), 2, "{text}");
    assert!(text.contains("device `/null` is not exported"), "{text}");
    assert_eq!(listing(&out).len(), 10);
}

#[test]
fn child_exports() {
    let Some(dir) = std::env::var_os("RBUILD_TEST_EXPORT").map(PathBuf::from) else { return };
    let store = Store::open(&dir.join("store")).unwrap();
    let image: Descriptor = serde_json::from_str(&std::env::var("RBUILD_TEST_IMAGE").unwrap()).unwrap();
    let (sender, receiver) = std::sync::mpsc::channel();
    let output = Output::parse(&format!("type=local,mode=delete,dest={}/out", dir.display())).unwrap();
    for _ in 0..2 {
        let result = export::write(
            &store,
            &image,
            (&[], &Along::default()),
            (std::slice::from_ref(&output), None),
            &Events::new(sender.clone()),
        );
        println!("done {:?}", result.map_err(|e| e.to_string()));
    }
    drop(sender);
    println!("{:?}", receiver.iter().map(|(_, event)| event).collect::<Vec<_>>());
}

#[test]
fn a_directory_with_other_files_is_merged_or_emptied() {
    let f = full_fixture();
    let out = f.path("out");
    let outside = f.path("outside");
    let prepare = || {
        let _ = fs::remove_dir_all(&out);
        fs::create_dir_all(out.join("hello/was/a/directory")).unwrap();
        fs::create_dir_all(&outside).unwrap();
        fs::write(out.join("mine"), "mine").unwrap();
        // Neither a file nor a directory may be written through a symlink that is there.
        std::os::unix::fs::symlink(&outside, out.join("etc")).unwrap();
        std::os::unix::fs::symlink(outside.join("new"), out.join("empty")).unwrap();
    };
    prepare();
    f.write("type=local,dest=DIR/out").unwrap();
    assert_eq!(fs::read_dir(&outside).unwrap().count(), 0);
    assert_eq!(fs::read_to_string(out.join("mine")).unwrap(), "mine");
    let merged = listing(&out);
    f.write("type=local,dest=DIR/out").unwrap();
    assert_eq!(listing(&out), merged, "twice is like once");

    prepare();
    f.write("type=local,dest=DIR/out,mode=delete").unwrap();
    let emptied: Vec<String> = merged.into_iter().filter(|line| !line.contains("mine")).collect();
    assert_eq!(listing(&out), emptied);
}

#[test]
fn a_failed_local_export_changes_nothing() {
    let f = full_fixture();
    let broken = b"this is no tar, but long enough".repeat(64);
    let digest = f.store.put_blob(&broken).unwrap();
    let descriptor = Descriptor::new(MediaType::LAYER, digest, broken.len() as u64);
    let image = build(&f.store, &Platform::host(), &[Layer { descriptor, diff_id: DiffId(digest) }]);
    fs::create_dir(f.path("out")).unwrap();
    fs::write(f.path("out/mine"), "mine").unwrap();
    for dest in ["new", "out"] {
        let output =
            Output::parse(&format!("type=local,mode=delete,dest={}", f.path(dest).display())).unwrap();
        let error =
            export::write(&f.store, &image, (&[], &Along::default()), (&[output], None), &Events::silent())
                .unwrap_err();
        assert!(matches!(error, Error::BadLayer { .. }), "{error}");
    }
    assert!(!f.path("new").exists());
    assert_eq!(listing(&f.path("out")).len(), 1);
}

#[test]
fn tars_hold_the_merged_root() {
    let f = full_fixture();
    f.write("type=tar,dest=DIR/root.tar").unwrap();
    let listed = run("tar", &["--utc", "--numeric-owner", "-tvf", f.path("root.tar").to_str().unwrap()]);
    let want = [
        "-r--r----- 1000/1000 4 2020-09-13 12:26 a-link",
        "dr-x------ 1000/1000 0 2020-09-13 12:26 closed/",
        "hr--r----- 1000/1000 0 2020-09-13 12:26 closed/data link to a-link",
        "-rw-r--r-- 1000/1000 0 2020-09-13 12:26 empty",
        "drwxr-xr-x 0/0 0 1970-01-01 00:00 etc/",
        "-rw-r--r-- 0/0 15 1970-01-01 00:00 etc/passwd",
        "prw------- 1000/1000 0 2020-09-13 12:26 fifo",
        "-rw-r--r-- 0/0 3 1970-01-01 00:00 hello",
        "crw-rw-rw- 1000/1000 1,3 2020-09-13 12:26 null",
        "-rwsr-xr-x 1000/1000 2 2020-09-13 12:26 su",
        "lrwxrwxrwx 1000/1000 0 2020-09-13 12:26 sym -> /closed/data",
    ];
    let squeezed: Vec<String> =
        listed.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
    assert_eq!(squeezed, want);
    fs::create_dir(f.path("x")).unwrap();
    run(
        "tar",
        &["--exclude=null", "-xf", f.path("root.tar").to_str().unwrap(), "-C", f.path("x").to_str().unwrap()],
    );
    assert_eq!(fs::read_to_string(f.path("x/hello")).unwrap(), "new");
    assert_eq!(fs::read_to_string(f.path("x/closed/data")).unwrap(), "data");
}

#[test]
fn platforms_get_folders() {
    let mut f = fixture();
    let arm = build(
        &f.store,
        &"linux/arm/v7".parse().unwrap(),
        &[layer(&f.store, &[("hello", "arm"), ("d/x", "1")])],
    );
    let (bytes, index) = image::assemble_index(vec![arm, f.image.clone()], (&BTreeMap::new(), Dialect::Oci));
    f.store.put_blob(&bytes).unwrap();
    f.image = index;
    f.write("type=local,dest=DIR/out").unwrap();
    assert_eq!(fs::read_to_string(f.path("out/linux_arm_v7/hello")).unwrap(), "arm");
    let host = Platform::host().to_string().replace('/', "_");
    assert_eq!(fs::read_to_string(f.path("out").join(&host).join("hello")).unwrap(), "new");
    f.write("type=tar,dest=DIR/out.tar").unwrap();
    let listed = run("tar", &["-tf", f.path("out.tar").to_str().unwrap()]);
    assert!(listed.contains("linux_arm_v7/d/x") && listed.contains(&format!("{host}/hello")), "{listed}");
    let text = f.write("type=local,dest=DIR/flat,platform-split=false").unwrap_err().to_string();
    assert!(text.contains("`hello` is in the image") && text.contains("platform-split"), "{text}");
    assert!(!f.path("flat").exists());
}
