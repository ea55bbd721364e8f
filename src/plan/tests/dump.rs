//! A plan as text.

use std::fmt::Write;

use crate::plan::graph::*;

/// The steps, one on a line: number, what it does, and what it stands on.
pub(super) fn steps(plan: &Plan) -> String {
    let mut out = String::new();
    for (id, step) in plan.graph.steps.iter().enumerate() {
        let parent = step.op.parent().map(|parent| format!(" on {}", parent.0)).unwrap_or_default();
        writeln!(out, "{id} {}{parent}", op(&step.op)).unwrap();
    }
    out
}

/// The lines that people see, with their steps.
pub(super) fn listing(plan: &Plan) -> String {
    lines(&plan.graph)
}

/// The lines of a graph.
pub(super) fn lines(graph: &Graph) -> String {
    let mut out = String::new();
    for line in &graph.listing {
        let step = line.step.map(|step| format!(" = {}", step.0)).unwrap_or_default();
        let after = line.after.map(|step| format!(" after {}", step.0)).unwrap_or_default();
        writeln!(out, "{} {}{step}{after}", line.place, line.title).unwrap();
    }
    out
}

/// The history that the file itself makes; `@2` is the step of a layer.
pub(super) fn history(plan: &Plan) -> String {
    let mut out = String::new();
    for entry in &plan.goal.image.history {
        if let HistoryPlan::Made { created_by, layer, .. } = entry {
            let layer = layer.map(|step| format!(" @{}", step.0)).unwrap_or_default();
            writeln!(out, "{}{layer}", created_by.replace('\n', "⏎")).unwrap();
        }
    }
    out
}

/// The `config` of the image, as JSON.
pub(super) fn config(plan: &Plan) -> String {
    serde_json::to_string(&plan.goal.image.config.config).unwrap()
}

fn op(op: &Op) -> String {
    match op {
        Op::Scratch => "scratch".to_owned(),
        Op::Base(base) => format!("base {}", base.request.name),
        Op::Image(image) => format!("image {} {}", image.reference, image.platform),
        Op::Local(local) => format!("local `{}`", local.name),
        Op::Workdir { op: workdir, .. } => {
            format!("workdir {} user=`{}`{}", workdir.path, workdir.user, epoch(workdir.epoch))
        }
        Op::Copy { op: transfer, .. } => transfer_op(transfer),
        Op::Exec { op: exec, .. } => exec_op(exec),
    }
}

fn epoch(epoch: Option<i64>) -> String {
    epoch.map(|epoch| format!(" epoch={epoch}")).unwrap_or_default()
}

fn transfer_op(transfer: &CopyOp) -> String {
    // Named one by one, so that a new flag cannot be left out here.
    let CopyOp {
        kind,
        sources,
        destination,
        chown,
        chmod,
        link,
        parents,
        excludes,
        unpack,
        checksum,
        keep_git_dir,
        epoch: time,
    } = transfer;
    let mut out = match kind {
        CopyKind::Copy => "copy",
        CopyKind::Add => "add",
    }
    .to_owned();
    for source in sources {
        match source {
            CopySource::Path { from, pattern, .. } => write!(out, " {}:{pattern}", from.0),
            CopySource::Inline { name, content } => write!(out, " <<{name}={content:?}"),
            CopySource::Url { url, .. } => write!(out, " url {url}"),
            CopySource::Git { url, .. } => write!(out, " git {url}"),
        }
        .unwrap();
    }
    write!(out, " -> {destination}").unwrap();
    let flags = [
        chown.as_ref().map(|chown| format!("chown={chown}")),
        chmod.as_ref().map(|chmod| match chmod {
            Chmod::Octal(mode) => format!("chmod={mode:04o}"),
            Chmod::Symbolic(text) => format!("chmod={text}"),
        }),
        link.then(|| "link".to_owned()),
        parents.then(|| "parents".to_owned()),
        (!excludes.is_empty()).then(|| format!("exclude={}", excludes.join(","))),
        unpack.map(|unpack| format!("unpack={unpack}")),
        checksum.clone().map(|checksum| format!("checksum={checksum}")),
        keep_git_dir.then(|| "keep-git-dir".to_owned()),
    ];
    for flag in flags.into_iter().flatten() {
        write!(out, " {flag}").unwrap();
    }
    out + &epoch(*time)
}

fn exec_op(exec: &ExecOp) -> String {
    let mut out = format!("exec {:?}", exec.args);
    let pairs = |pairs: &[(String, String)]| {
        pairs.iter().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>().join(",")
    };
    write!(out, " env={}", pairs(&exec.env)).unwrap();
    if !exec.proxy_env.is_empty() {
        write!(out, " proxy={}", pairs(&exec.proxy_env)).unwrap();
    }
    write!(out, " cwd={} user=`{}`", exec.cwd, exec.user).unwrap();
    for mount in &exec.mounts {
        write!(out, " mount {} {}", mount.target, mount_kind(&mount.kind)).unwrap();
    }
    for (name, content) in &exec.pipes {
        write!(out, " pipe {name}={content:?}").unwrap();
    }
    if exec.network != Network::Default || exec.security != Security::Sandbox {
        write!(out, " {:?} {:?}", exec.network, exec.security).unwrap();
    }
    out
}

fn mount_kind(kind: &MountKind) -> String {
    match kind {
        MountKind::Bind { from, source, writable } => {
            format!("bind {}:{source}{}", from.0, if *writable { " rw" } else { "" })
        }
        MountKind::Cache { id, sharing, from, readonly, owner } => {
            let from =
                from.as_ref().map(|(step, path)| format!(" from {}:{path}", step.0)).unwrap_or_default();
            let ro = if *readonly { " ro" } else { "" };
            let owner = owner.map(|o| format!(" {:04o} {}:{}", o.mode, o.uid, o.gid)).unwrap_or_default();
            format!("cache {id} {sharing:?}{from}{ro}{owner}")
        }
        MountKind::Tmpfs { size_bytes } => format!("tmpfs {size_bytes}"),
        MountKind::Secret { id, file, env, required, mode, uid, gid } => {
            let env = env.as_ref().map(|env| format!(" env={env}")).unwrap_or_default();
            format!("secret {id} file={file}{env} required={required} {mode:04o} {uid}:{gid}")
        }
        MountKind::Ssh { id, required, mode, uid, gid } => {
            format!("ssh {id} required={required} {mode:04o} {uid}:{gid}")
        }
    }
}
