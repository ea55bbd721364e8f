//! `rbuild sign` and `rbuild verify-signature`

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::Value;

use crate::cli::Failure;
use crate::cli::error::print;
use crate::cli::options::configuration::{Configuration, RegistryArgs};
use crate::cli::show::notes;
use crate::oci::Reference;
use crate::registry::Client;
use crate::report::Diagnostic;
use crate::signature::image::{KeyError, PrivateKey, PublicKey};
use crate::text::terminal::harmless_json;
use crate::transport::{self, Form, SignatureError};

/// Sign images in their registry with a key
///
/// Signatures are cosign's and lie beside the image, which stays what it is: `skopeo`, podman's policies and `cosign verify --key` read them. They are
/// written in both of cosign's forms, and in the older one alone where a registry does not take the other. Prints name and digest of each image.
/// Without a key it says how cosign signs with an identity.
#[derive(Debug, Args)]
#[command(after_help = "Exit codes: 0 signed, 1 not, 2 wrong usage.")]
pub(crate) struct SignArgs {
    /// The images, by name, better with their digest
    #[arg(value_name = "NAME[:TAG][@DIGEST]", required = true)]
    names: Vec<String>,
    /// A private key of P-256 or ed25519 in PEM, or one that cosign encrypted (its password in $COSIGN_PASSWORD); `env://NAME` for one in a variable
    #[arg(long, value_name = "FILE")]
    key: Option<String>,
    /// A file with the password of the key
    #[arg(long, value_name = "FILE")]
    sign_passphrase_file: Option<PathBuf>,
    /// Sign this, too: `KEY=VALUE`; may be repeated
    #[arg(short, long = "annotations", value_name = "KEY=VALUE")]
    annotations: Vec<String>,
    /// Sign each platform of an image that has several, too
    #[arg(short, long)]
    recursive: bool,
    #[command(flatten)]
    form: FormArgs,
    #[command(flatten)]
    registries: RegistryArgs,
}

/// In which form signatures are written.
#[derive(Debug, Args)]
pub(crate) struct FormArgs {
    /// Write bundles of Sigstore alone, which cosign 3 looks for; `false`: signatures under tags alone, where cosign 2, podman and skopeo look [default: both]
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    new_bundle_format: Option<bool>,
}

impl FormArgs {
    pub(crate) fn form(&self) -> Form {
        match self.new_bundle_format {
            None => Form::Both,
            Some(true) => Form::Bundle,
            Some(false) => Form::Tag,
        }
    }
}

/// Check that images in a registry were signed with a key
///
/// Prints what was signed, an object on each line: what is signed under the tag, or, where nothing there is believed, in bundles of Sigstore.
#[derive(Debug, Args)]
#[command(
    after_help = "Exit codes: 0 each image has a signature that is believed, 1 one has none, 2 wrong usage."
)]
pub(crate) struct VerifySignatureArgs {
    /// The images, by name, better with their digest
    #[arg(value_name = "NAME[:TAG][@DIGEST]", required = true)]
    names: Vec<String>,
    /// A public key in PEM, any of several; may be repeated
    #[arg(long, value_name = "FILE", required = true)]
    key: Vec<PathBuf>,
    #[command(flatten)]
    registries: RegistryArgs,
}

/// Signs.
pub(crate) fn sign(args: &SignArgs) -> Result<(), Failure> {
    let client = client(&args.registries)?;
    let annotations =
        args.annotations.iter().map(|text| annotation(text)).collect::<Result<BTreeMap<_, _>, _>>()?;
    let Some(key) = &args.key else { return Err(keyless(&client, &args.names)) };
    let key = private_key(key, args.sign_passphrase_file.as_deref())?;
    let mut signed = String::new();
    for name in &args.names {
        let name = parsed(name)?;
        let (digest, parts) = transport::signed_digests(&client, &name).map_err(|error| told(&error))?;
        for digest in [digest].into_iter().chain(parts.into_iter().filter(|_| args.recursive)) {
            let signed = transport::sign(&client, (&name, &digest), &key, &annotations, args.form.form());
            signed.map_err(|error| told(&error))?;
        }
        signed.push_str(&format!("{name} {digest}\n"));
    }
    print(&signed)
}

/// Verifies.
pub(crate) fn verify(args: &VerifySignatureArgs) -> Result<(), Failure> {
    let client = client(&args.registries)?;
    let keys = args.key.iter().map(|file| public_key(file)).collect::<Result<Vec<_>, _>>()?;
    let mut lines = String::new();
    for name in &args.names {
        let name = parsed(name)?;
        let (digest, _) = transport::signed_digests(&client, &name).map_err(|error| told(&error))?;
        let signed = transport::verify_signatures(&client, (&name, &digest), &keys);
        for document in signed.map_err(|error| told(&error))? {
            lines.push_str(&on_one_line(&document));
        }
    }
    print(&lines)
}

/// Signing with an identity needs a browser or a token of the pipeline, a certificate authority and a log: cosign's affair.
fn keyless(client: &Client, names: &[String]) -> Failure {
    let error = Diagnostic::error("rbuild signs with keys: `--key FILE` is missing");
    let line = |name: &String| {
        let name = parsed(name).ok()?;
        let (digest, _) = transport::signed_digests(client, &name).ok()?;
        Some(format!(
            "with an identity, without a key: `cosign sign --yes {}`",
            name.without_digest().pinned(digest)
        ))
    };
    Failure::usage(names.iter().filter_map(line).fold(error, Diagnostic::help))
}

/// Documents of others may have line breaks.
fn on_one_line(document: &[u8]) -> String {
    let text = String::from_utf8_lossy(document);
    let compact = serde_json::from_str::<Value>(&text).map(|value| value.to_string());
    harmless_json(compact.unwrap_or_else(|_| text.into_owned())) + "\n"
}

fn client(registries: &RegistryArgs) -> Result<Client, Failure> {
    let client = Client::new(Configuration::load()?.registries(registries)?);
    client.tell(&notes::aloud());
    Ok(client)
}

fn parsed(name: &str) -> Result<Reference, Failure> {
    let bad = |e: crate::oci::ReferenceError| {
        Failure::usage(Diagnostic::error(format!("bad name `{name}`: {}", e.reason)))
    };
    name.parse::<Reference>().map(Reference::with_default_tag).map_err(bad)
}

fn annotation(text: &str) -> Result<(String, String), Failure> {
    let pair = text.split_once('=').filter(|(key, _)| !key.is_empty());
    pair.map(|(key, value)| (key.to_owned(), value.to_owned())).ok_or_else(|| {
        Failure::usage(Diagnostic::error(format!(
            "bad value `{text}` for --annotations: write it as KEY=VALUE"
        )))
    })
}

/// Reads the key to sign with.
pub(crate) fn private_key(key: &str, passphrase: Option<&Path>) -> Result<PrivateKey, Failure> {
    let pem = match key.strip_prefix("env://") {
        Some(name) => std::env::var(name).map_err(|_| {
            Failure::usage(Diagnostic::error(format!("the environment variable `{name}` is not set")))
        })?,
        None => read(Path::new(key))?,
    };
    let password = match passphrase {
        Some(file) => Some(read(file)?.trim_end_matches(['\r', '\n']).to_owned()),
        None => std::env::var("COSIGN_PASSWORD").ok(),
    };
    PrivateKey::parse(&pem, password.as_deref()).map_err(|error| {
        let diagnostic = Diagnostic::error(format!("`{key}` is no key to sign with: {error}"));
        Failure::usage(match error {
            KeyError::NoPassword => diagnostic.help("give it in $COSIGN_PASSWORD, or in a file: `--sign-passphrase-file FILE`"),
            KeyError::Unknown(_) => diagnostic.help(
                "`openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out key.pem` makes one, and `openssl pkey -in key.pem -pubout` its public key",
            ),
            KeyError::WrongPassword | KeyError::Encryption(_) => diagnostic,
        })
    })
}

/// Reads a key to verify with.
pub(crate) fn public_key(file: &Path) -> Result<PublicKey, Failure> {
    PublicKey::parse(&read(file)?).map_err(|error| {
        Failure::usage(Diagnostic::error(format!("`{}` is no key to verify with: {error}", file.display())))
    })
}

fn read(file: &Path) -> Result<String, Failure> {
    std::fs::read_to_string(file).map_err(|error| {
        Failure::usage(Diagnostic::error(format!("cannot read `{}`: {error}", file.display())))
    })
}

/// In words.
pub(crate) fn told(error: &SignatureError) -> Failure {
    let diagnostic = Diagnostic::error(error.to_string());
    let diagnostic = error.help().into_iter().fold(diagnostic, Diagnostic::help);
    Failure::build(vec![diagnostic.transient(error.is_transient())])
}
