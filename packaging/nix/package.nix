# UNTRIED: no Nix was at hand. `callPackage ./packaging/nix/package.nix { }` in the repository.
{ lib, rustPlatform, installShellFiles, makeWrapper, git, passt, shadow }:

rustPlatform.buildRustPackage {
  pname = "rbuild";
  version = (lib.importTOML ../../Cargo.toml).package.version;
  src = lib.cleanSource ../..;
  cargoLock.lockFile = ../../Cargo.lock;
  buildType = "dist";
  # The tests want registries, other builders and namespaces.
  doCheck = false;

  nativeBuildInputs = [ installShellFiles makeWrapper ];
  postInstall = ''
    $out/bin/rbuild man --dir man
    installManPage man/*.1
    for shell in bash zsh fish; do $out/bin/rbuild completions $shell >rbuild.$shell; done
    installShellCompletion --bash rbuild.bash --fish rbuild.fish --zsh rbuild.zsh
    # newuidmap is set-uid, and so the system's; what is here serves where it has none.
    wrapProgram $out/bin/rbuild --suffix PATH : ${lib.makeBinPath [ git passt shadow ]}
  '';

  meta = {
    description = "Builds OCI images from Dockerfiles without daemon or root";
    license = lib.licenses.asl20;
    platforms = lib.platforms.linux;
    mainProgram = "rbuild";
  };
}
