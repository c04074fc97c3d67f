# The package of worker:
#
#   worker = pkgs.callPackage ./releases/worker.nix { };
#
# All facts are in worker.json, so that a release changes data and never this code. Add to it what you like, such as a
# description and a licence: release.ts writes it where it is not there, and leaves it alone where it is.
{
  lib,
  stdenv,
  fetchurl,
  autoPatchelfHook ? null, # for a program that is linked dynamically
  pkgs ? { }, # for what runs a script
}:

let
  release = builtins.fromJSON (builtins.readFile ./worker.json);
  inherit (release) name version platforms;
  inherit (stdenv.hostPlatform) system;

  # What runs where, best first.
  platformsOf = {
    aarch64-darwin = [ "darwin_arm64" "darwin_all" "noarch" ];
    aarch64-linux = [ "linux_arm64" "noarch" ];
    armv7l-linux = [ "linux_armv7" "noarch" ];
    i686-linux = [ "linux_386" "noarch" ];
    riscv64-linux = [ "linux_riscv64" "noarch" ];
    x86_64-darwin = [ "darwin_amd64" "darwin_all" "noarch" ];
    x86_64-linux = [ "linux_amd64" "noarch" ];
  };
  buildsFor =
    system:
    map (platform: platforms.${platform}) (
      builtins.filter (platform: platforms ? ${platform}) (platformsOf.${system} or [ ])
    );
  systems = builtins.filter (system: buildsFor system != [ ]) (builtins.attrNames platformsOf);
  build =
    if buildsFor system != [ ] then
      builtins.head (buildsFor system)
    else
      throw "${name} ${version} is not released for ${system}, but for ${toString systems}";

  # Where nixpkgs has another name for an interpreter than its command.
  attributes = {
    Rscript = "R";
    awk = "gawk";
    node = "nodejs";
    nu = "nushell";
    pwsh = "powershell";
    python = "python3";
    sh = "bash";
    tclsh = "tcl";
  };
  # python3.12 is python312 there.
  attribute = builtins.replaceStrings [ "." ] [ "" ] (attributes.${build.interpreter} or build.interpreter);
  exactly = builtins.replaceStrings [ "." "+" ] [ "[.]" "[+]" ];
  interpreter =
    pkgs.${attribute} or (throw "${name} is run by ${build.interpreter}, and nixpkgs has no ${attribute}");
in
stdenv.mkDerivation {
  pname = name;
  inherit version;

  src = fetchurl {
    name = build.file;
    inherit (build) url hash;
  };
  sourceRoot = ".";

  nativeBuildInputs = lib.optional (build.kind == "elf-dynamic") autoPatchelfHook;
  # The first line of a script is rewritten to name what is found in here, env included.
  buildInputs =
    lib.optional (build.kind == "elf-dynamic") stdenv.cc.cc.lib
    ++ lib.optionals (build.kind == "script") [
      interpreter
      pkgs.coreutils
    ];

  dontConfigure = true;
  dontBuild = true;
  # A program may carry its data behind its code.
  dontStrip = true;
  dontPatchELF = true;
  installPhase = ''
    runHook preInstall
    install -D -m 755 ${name} "$out/bin/${name}"
    runHook postInstall
  '';

  doInstallCheck = stdenv.buildPlatform.canExecute stdenv.hostPlatform;
  installCheckPhase = ''
    runHook preInstallCheck
    HOME=$TMPDIR "$out/bin/${name}" --version 2>&1 | grep -E "(^|[^A-Za-z0-9_.+-])v?${exactly version}[.]?([^A-Za-z0-9_.+-]|$)"
    runHook postInstallCheck
  '';

  meta = {
    description = "Gives each task of a repo to an agent of its own, in a git worktree of its own";
    license = lib.licenses.mit;
    mainProgram = name;
    platforms = systems;
    sourceProvenance = [
      (
        if builtins.all (build: build.kind == "script") (builtins.attrValues platforms) then
          lib.sourceTypes.fromSource
        else
          lib.sourceTypes.binaryNativeCode
      )
    ];
  };
}
