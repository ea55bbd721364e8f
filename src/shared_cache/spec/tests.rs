#![allow(clippy::unwrap_used)]

use super::*;

/// What `--cache-to` comes to: the value and its notes, or the error.
fn to(text: &str) -> String {
    told(CacheTo::parse(text).map(|(all, notes)| (all.iter().map(|to| format!("{to:?}")).collect(), notes)))
}

fn from(text: &str) -> String {
    let told_all = |(all, notes): (Vec<CacheFrom>, Vec<String>)| {
        (all.iter().map(|from| format!("{:?}", from.location)).collect(), notes)
    };
    told(CacheFrom::parse(text).map(told_all))
}

fn told(parsed: Result<(Vec<String>, Vec<String>), String>) -> String {
    match parsed {
        Ok((all, notes)) => all.into_iter().chain(notes).collect::<Vec<String>>().join("\n"),
        Err(text) => text,
    }
}

fn only(text: &str) -> Location {
    let (mut all, _) = CacheFrom::parse(text).unwrap();
    all.pop().unwrap().location
}

#[test]
fn every_key_of_buildx_is_taken() {
    let common = "ignore-error=true,compression=zstd,compression-level=3,force-compression=true,oci-mediatypes=true,image-manifest=true";
    for own in [
        "type=registry,ref=a.example/b,registry.insecure=true",
        "type=local,dest=d,tag=t,digest=sha256:1,reset=true",
        "type=http,url=http://a.example,name=n,token=hidden,timeout=20s",
        "type=reapi,endpoint=grpcs://a.example,instance=i,name=n,ca=a,cert=b,key=c,token=hidden,header=x=hidden,header-env=y=Z,header-file=z=f,timeout=20s",
        "type=s3,bucket=b,region=r,prefix=p,blobs_prefix=b/,manifests_prefix=m/,name=n,endpoint_url=http://a.example,use_path_style=true,access_key_id=hidden,secret_access_key=hidden,session_token=hidden,touch_refresh=24h,timeout=20s,upload_parallelism=4,retry_mode=standard,retry_max_attempts=3,disable_accept_encoding=true",
        "type=gha,scope=s,url_v2=http://a.example/,token=hidden,timeout=10m,version=2,repository=a/b,url=http://a.example,ghtoken=hidden",
    ] {
        let text =
            format!("{own},mode=min,max-size=1g,mounts-max-size=1g,mount-max-size=1g,max-age=14d,{common}");
        let (all, notes) = CacheTo::parse(&text).unwrap();
        assert_eq!((all.len(), all[0].mode), (1, Mode::Min), "{text}");
        assert!(notes.len() >= 5, "{notes:?}");
        assert!(!format!("{all:?} {notes:?} {}", shown(&text)).contains("hidden"), "{all:?}");
    }
}

#[test]
fn what_options_come_to() {
    for (text, expected) in [
        (
            "a.example/b",
            "Registry(Reference { registry: \"a.example\", repository: \"b\", tag: Some(\"latest\"), digest: None })",
        ),
        ("type=local,src=/c", "Local(\"/c\", \"latest\")"),
        ("TYPE=local,SRC=/c,tag=main", "Local(\"/c\", \"main\")"),
        (
            "type=http,url=https://me:secret@a.example/c/,name=main",
            "Http(HttpAt { url: \"https://a.example/c\", authorization: Some(…), name: \"main\", timeout: None })",
        ),
        (
            "type=reapi,endpoint=grpc://localhost:50061,instance=a/b,header=X-Key=secret=,header-env=y=VARIABLE,token=secret",
            "Reapi(ReapiAt { endpoint: \"grpc://localhost:50061\", instance: \"a/b\", name: \"rbuild\", ca: None, client: None, headers: [(\"authorization\", Value(…)), (\"x-key\", Value(…)), (\"y\", Variable(\"VARIABLE\"))], timeout: None })",
        ),
        (
            "type=local,src=/c,mode=max,reset=true",
            "Local(\"/c\", \"latest\")\n`mode` says nothing in `--cache-from`\n`reset` means nothing here: `max-size` and `max-age` bound what is kept",
        ),
    ] {
        let told = from(text);
        match text.starts_with("a.example") {
            true => assert!(told.starts_with("Registry("), "{told}"),
            false => assert_eq!(told, expected, "{text}"),
        }
    }
    let Location::Http(at) = only("type=http,url=https://a.example,token=abc") else { panic!("it is http") };
    assert_eq!(at.authorization, Some(Secret("Bearer abc".to_owned())));
    let Location::S3(at) = only("type=s3,bucket=b,region=eu-1,blobs_prefix=x,manifests_prefix=,name=n")
    else {
        panic!("it is s3")
    };
    assert_eq!((&*at.blobs_prefix, &*at.manifests_prefix, &*at.name, at.touch), ("x/", "", "n", true));
    let (all, _) = CacheTo::parse("type=s3,bucket=b,name=main;branch;,touch_refresh=0s").unwrap();
    let names: Vec<(String, bool)> = all
        .into_iter()
        .map(|to| match to.location {
            Some(Location::S3(at)) => (at.name, at.touch),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(names, [("main".to_owned(), false), ("branch".to_owned(), false)]);
}

#[test]
fn what_is_wrong_is_said() {
    for (text, expected) in [
        ("", "no fields"),
        ("ref=a.example/b", "`type=` is missing, such as `type=registry,ref=…`"),
        ("type=registry", "`ref=` is missing"),
        ("type=registri,ref=a", "`type=registri` is unknown; `registry`?"),
        ("type=redis", "`type=redis` is unknown; there are registry, local, http, reapi, s3, gha, inline"),
        (
            "type=azblob,account_url=x",
            "`type=azblob` is not supported; Azure's container registry keeps a cache of `type=registry`",
        ),
        ("type=registry,ref=a.example/b,mod=max", "`mod` is unknown for `type=registry`; `mode`?"),
        (
            "type=registry,ref=a.example/b,ignore_error=true",
            "`ignore_error` is unknown for `type=registry`; `ignore-error`?",
        ),
        ("type=s3,bucket=b,access-key-id=abc", "`access-key-id` is unknown for `type=s3`; `access_key_id`?"),
        ("type=s3,bucket=b,color=red", "`color` is unknown for `type=s3`"),
        ("type=s3,bucket=b,access_key_id=abc", "`secret_access_key=` is missing"),
        ("type=s3,bucket=b,secret_access_key=abc", "`access_key_id=` is missing"),
        (
            "type=s3,bucket=b,endpoint_url=ftp://a",
            "`endpoint_url=` is no URL such as `https://cache.example/path`",
        ),
        ("type=s3,bucket=b,touch_refresh=soon", "`touch_refresh=soon` is no time such as `14d`"),
        ("type=local,src=d", "`src` belongs to the other option; here it is `dest`"),
        ("type=local,dest=d,tag=../x", "`tag=../x`: a tag has letters, digits, `_`, `.` and `-`"),
        ("type=local,dest=d,mode=some", "`mode=some`: it is `min` or `max`"),
        ("type=local,dest=d,ignore-error=perhaps", "`ignore-error=perhaps`: it is `true` or `false`"),
        ("type=local,dest=d,max-size=much", "`max-size=much` is no size such as `10g`"),
        ("type=local,dest=d,mount-max-size=much", "`mount-max-size=much` is no size such as `10g`"),
        ("type=local,dest=d,max-age=long", "`max-age=long` is no time such as `14d`"),
        ("type=local,dest=d,secret", "field 3 is no `KEY=VALUE`"),
        ("type=http", "`url=` is missing"),
        (
            "type=gha,version=1",
            "`version=1`: GitHub has ended the first version of its cache service; leave it out",
        ),
        ("type=inline,ref=a", "`ref` is unknown for `type=inline`"),
        (
            "type=inline,sign=key",
            "`sign=`: what an image carries is not signed; `verify=` believes none of it",
        ),
        ("type=gha,version=v2", "`version=v2`: it is `2`"),
        ("type=gha,scope=a#b", "`scope=a#b`: it has up to 200 bytes without `,` and `#`"),
        ("type=gha,timeout=0s", "`timeout=` is no time such as `30s`: nothing is answered in no time"),
        (
            "type=http,url=http://a.example,timeout=0s",
            "`timeout=` is no time such as `30s`: nothing is answered in no time",
        ),
        (
            "type=s3,bucket=b,region=r,timeout=0s",
            "`timeout=` is no time such as `30s`: nothing is answered in no time",
        ),
        ("type=gha,timeout=soon", "`timeout=soon` is no time such as `14d`"),
        ("type=gha,url_v2=results", "`url_v2=` is no URL such as `https://cache.example/path`"),
        ("type=reapi", "`endpoint=` is missing"),
        (
            "type=reapi,endpoint=https://me:secret@a.example",
            "`endpoint=` is no address such as `grpcs://cache.example:443` or `grpc://cache.example:8980`",
        ),
        (
            "type=reapi,endpoint=grpc://a.example",
            "`endpoint=` is no address such as `grpcs://cache.example:443` or `grpc://cache.example:8980`",
        ),
        (
            "type=reapi,endpoint=grpc://a.example:1,token=secret",
            "tokens do not travel in plain text: write the endpoint with `grpcs://`",
        ),
        ("type=reapi,endpoint=grpc://a.example:1,ca=file", "`ca=` and `cert=` are for `grpcs://`"),
        (
            "type=reapi,endpoint=grpcs://a.example,cert=file",
            "`key=` is missing, the file of the certificate's key",
        ),
        ("type=reapi,endpoint=grpcs://a.example,header=secret", "`header=`: it is written `header=NAME=…`"),
        ("type=reapi,endpoint=grpcs://a.example,header=x=", "`header=x=` has nothing behind it"),
        ("type=reapi,endpoint=grpcs://a.example,header==x", "`header=`: it is written `header=NAME=…`"),
        (
            "type=reapi,endpoint=grpcs://a.example,header-env=grpc-timeout=X",
            "`header-env=grpc-timeout`: this header is gRPC's own",
        ),
        ("type=http,url=https://me:secret@", "`url=` is no URL such as `https://cache.example/path`"),
        ("type=http,url=cache.example", "`url=` is no URL such as `https://cache.example/path`"),
    ] {
        assert_eq!(to(text), expected, "{text}");
    }
}

#[test]
fn an_image_is_written_by_one_option_and_named_by_the_other() {
    let (all, notes) = CacheTo::parse("type=inline,mode=max,secrets=skip").unwrap();
    assert_eq!((&all[0].location, all[0].skip_secrets), (&None, true));
    assert_eq!(notes, ["`mode` means nothing here: an image carries the records of its own layers"]);
    let from = from("type=inline");
    assert!(from.contains("in `--cache-from` the image is named, as in `type=registry,ref=NAME`"), "{from}");
}

#[test]
fn secrets_are_not_shown() {
    for (text, expected) in [
        ("type=s3,secret_access_key=abc,bucket=b", "type=s3,secret_access_key=…,bucket=b"),
        ("type=http,url=https://me:abc@a.example/c", "type=http,url=https://a.example/c"),
        ("type=s3,\"session_token=a,c\"", "type=s3,session_token=…"),
        ("type=reapi,endpoint=grpcs://u:p@h,header=x=abc", "type=reapi,endpoint=grpcs://h,header=…"),
        ("a.example/b", "a.example/b"),
    ] {
        assert_eq!(shown(text), expected);
    }
}
