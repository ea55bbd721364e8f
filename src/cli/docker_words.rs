//! Words of docker's that mean nothing here, and what to say instead.

/// What somebody does who types a command that docker has.
pub(super) fn command(word: &str) -> Option<&'static str> {
    COMMANDS.iter().find(|(known, _)| known.contains(&word)).map(|(_, help)| *help)
}

/// What somebody does who gives an option that docker has, as it was typed.
pub(super) fn option(word: &str) -> Option<&'static str> {
    OPTIONS.iter().find(|(known, _)| known.contains(&word)).map(|(_, help)| *help)
}

const CONTAINERS: &str = "rbuild builds images; podman or docker run containers of them. `rbuild run` tries an image out, and \
                          `rbuild sessions` lists what it keeps of that";

const COMMANDS: &[(&[&str], &str)] = &[
    (
        &[
            "ps",
            "container",
            "create",
            "start",
            "stop",
            "restart",
            "kill",
            "rm",
            "pause",
            "unpause",
            "wait",
            "attach",
            "top",
            "stats",
            "port",
            "rename",
            "update",
        ],
        CONTAINERS,
    ),
    (
        &["exec"],
        "`rbuild shell` opens a shell in a failed step, at any step, or in an image; containers are podman's or docker's",
    ),
    (&["info"], "`rbuild doctor` says what this machine offers, and `rbuild du` what the store takes up"),
    (&["help"], "`rbuild --help` lists the commands, and `rbuild COMMAND --help` what each can do"),
    (
        &["system"],
        "`rbuild du`, `rbuild prune` and `rbuild doctor` are docker's `system df`, `system prune` and `info`",
    ),
    (
        &["image"],
        "what docker has below `image` are commands of their own: `rbuild images`, `inspect`, `history`, `tag`, `rmi`, …",
    ),
    (
        &["builder", "buildx"],
        "there is no builder to manage: `rbuild .` and `rbuild bake` build, `rbuild du` shows the cache, `rbuild prune` empties it; `rbuild self install-docker-plugin` gives docker these words",
    ),
    (
        &["compose", "swarm", "stack", "service", "node"],
        "rbuild builds images and runs no services; give compose an `image:` that rbuild built",
    ),
    (
        &["manifest"],
        "`rbuild index create` makes an image of several platforms in a registry, and `rbuild --platform A,B .` builds one",
    ),
    (
        &["export"],
        "`rbuild -o type=tar,dest=FILE .` writes the files of an image, and `rbuild save` the image",
    ),
    (
        &["import"],
        "`rbuild load` takes images; a root becomes one with a Dockerfile of `FROM scratch` and `ADD root.tar /`",
    ),
    (
        &["cp"],
        "`rbuild -o type=local,dest=DIR .` writes the files of an image; `rbuild copy` moves whole images",
    ),
    (&["diff"], "`rbuild history` shows what each layer of an image holds"),
    (
        &["network", "volume"],
        "nothing of that outlives a step: see `--network` of a build, and RUN --mount=type=cache",
    ),
    (&["search"], "registries are not searched here; `rbuild pull NAME` fetches an image"),
    (&["events"], "`rbuild --progress=json` tells what happens in a build"),
];

const OPTIONS: &[(&[&str], &str)] = &[
    (
        &[
            "-d",
            "--detach",
            "-p",
            "--publish",
            "-P",
            "--publish-all",
            "--restart",
            "--link",
            "--expose",
            "--health-cmd",
            "--log-driver",
            "--pid",
            "--ipc",
            "--cgroupns",
            "--ip",
            "--mac-address",
        ],
        CONTAINERS,
    ),
    (
        &["--env-file"],
        "give variables one by one with `-e NAME=VALUE`, or `-e NAME` for one of this environment",
    ),
    (
        &["--privileged", "--cap-add", "--cap-drop", "--security-opt", "--device", "--gpus"],
        "a command has the capabilities and devices of docker's default container, no more and no fewer",
    ),
];
