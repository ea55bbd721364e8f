#![allow(clippy::unwrap_used)]

use super::*;

fn parse(value: &str) -> Result<Mount, Error> {
    Mount::parse(&fields(value)?)
}

fn bind() -> Mount {
    Draft::default().finish().unwrap()
}

fn some(text: &str) -> Option<String> {
    Some(text.to_owned())
}

#[test]
fn mounts() {
    let cache = Mount { kind: MountType::Cache, read_only: false, ..bind() };
    let tmpfs = Mount { kind: MountType::Tmpfs, read_only: false, ..bind() };
    let secret = Mount { kind: MountType::Secret, ..bind() };
    for (value, expected) in [
        ("target=/x", Mount { target: some("/x"), ..bind() }),
        ("dst=/x,src=y,from=z", Mount { target: some("/x"), source: some("y"), from: some("z"), ..bind() }),
        ("destination=/x,from=", Mount { target: some("/x"), ..bind() }),
        ("TYPE=Bind,rw", Mount { read_only: false, ..bind() }),
        ("readwrite=false", bind()),
        ("ro=0", Mount { read_only: false, ..bind() }),
        ("type=cache,target=/c", Mount { target: some("/c"), ..cache.clone() }),
        ("type=cache,ro", Mount { read_only: true, ..cache.clone() }),
        (
            "type=cache,id=i,sharing=LOCKED,mode=1777,uid=1,gid=2",
            Mount {
                id: some("i"),
                sharing: Some(Sharing::Locked),
                mode: Some(0o1777),
                uid: Some(1),
                gid: Some(2),
                ..cache
            },
        ),
        ("type=tmpfs,size=10m", Mount { size_bytes: 10 << 20, ..tmpfs }),
        ("type=secret,id=a,required", Mount { id: some("a"), required: true, ..secret.clone() }),
        ("type=secret,id=a,env=,target=", Mount { id: some("a"), env: some(""), ..secret.clone() }),
        ("\"type=secret\",\"source=a,b\"\"c\"", Mount { source: some("a,b\"c"), ..secret }),
        ("type=ssh,required=false,mode=600", Mount { kind: MountType::Ssh, mode: Some(0o600), ..bind() }),
    ] {
        assert_eq!(parse(value), Ok(expected), "{value}");
    }
}

#[test]
fn faulty_mounts() {
    for (value, expected) in [
        ("", "failed to parse csv mounts: no fields"),
        ("a\"b", "failed to parse csv mounts: bare \" in non-quoted field"),
        ("\"a\"b", "failed to parse csv mounts: extraneous or missing \" in quoted-field"),
        ("\"a", "failed to parse csv mounts: extraneous or missing \" in quoted-field"),
        ("colour=blue", "unexpected key `colour` in `colour=blue`"),
        ("readonli", "invalid field `readonli` must be a key=value pair"),
        ("target", "invalid field `target` must be a key=value pair"),
        ("type=magic", "unsupported mount type `magic`"),
        ("type=cache,sharing=maybe", "unsupported sharing value `maybe`"),
        ("sharing=locked", "invalid cache sharing set for bind mount"),
        ("ro=maybe", "invalid value for ro: `maybe`"),
        ("type=cache,mode=8", "invalid value for mode: `8`"),
        ("type=cache,uid=-1", "invalid value for uid: `-1`"),
        ("type=cache,gid=4294967296", "invalid value for gid: `4294967296`"),
        ("mode=600", "mode not allowed for `bind` type mounts"),
        ("type=tmpfs,uid=1", "uid not allowed for `tmpfs` type mounts"),
        ("size=1", "unexpected key `size` for mount type `bind`"),
        ("size=1,type=tmpfs", "unexpected key `size` for mount type `bind`"),
        ("type=tmpfs,size=many", "invalid value for size: `many`"),
        ("required", "unexpected key `required` for mount type `bind`"),
        ("type=cache,required=true", "unexpected key `required` for mount type `cache`"),
        ("type=secret", "invalid secret mount. one of source, target required"),
        ("type=secret,id=a,source=b", "both source and id can't be set"),
        ("type=secret,id=a,from=b", "secret mount should not have a from"),
        ("type=secret,id=a,sharing=shared", "secret mount should not define sharing"),
    ] {
        assert_eq!(parse(value).unwrap_err().to_string(), expected, "{value}");
    }
}

#[test]
fn suggestions() {
    for (value, near) in [
        ("tpye=x", Some("type")),
        ("type=caceh", Some("cache")),
        ("type=cache,sharing=lockd", Some("locked")),
        ("colour=blue", None),
        ("size=1", None),
    ] {
        assert_eq!(parse(value).unwrap_err().suggestion(), near, "{value}");
    }
}

#[test]
fn stages_of_mounts() {
    for (value, expected) in [
        ("target=/x", Ok(None)),
        ("From=a,target=$x", Ok(some("a"))),
        ("from=a,from=b$", Ok(some("b$"))),
        ("from=", Ok(None)),
        ("from=$x", Err(Error::VariableInFrom)),
        ("from=a${x}", Err(Error::VariableInFrom)),
    ] {
        assert_eq!(from(value), expected, "{value}");
    }
}

#[test]
fn devices() {
    let device = |name: &str, required| Ok(Device { name: name.to_owned(), required });
    for (value, expected) in [
        ("vendor.com/gpu=all", device("vendor.com/gpu=all", false)),
        ("vendor.com/gpu,required", device("vendor.com/gpu", true)),
        ("name=a,required=false", device("a", false)),
        ("a,name=b", Err("device name already set to `a`")),
        ("a,b", Err("invalid field `b` must be a key=value pair")),
        ("a,requierd=true", Err("unexpected key `requierd` in `requierd=true`")),
        ("a,required=maybe", Err("invalid value for required: `maybe`")),
    ] {
        assert_eq!(Device::parse(value).map_err(|error| error.to_string()), expected.map_err(str::to_owned));
    }
}
