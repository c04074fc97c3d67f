/** Tests of `skills/ai-skills.nix` with the real evaluator, and a small stand-in for nixpkgs and home-manager. */
import { assertEquals, assertNotEquals, assertStringIncludes } from "jsr:@std/assert@^1";
import { describe } from "jsr:@std/testing@^1/bdd";
import { requires, type Result, Sandbox } from "./helpers.ts";

const folder = decodeURIComponent(new URL("../skills", import.meta.url).pathname);

/**
 * Evaluates a home-manager module with a configuration.
 *
 * It has what modules use of nixpkgs' library, and of home-manager's options those that such a module may define or
 * read. Conditions are put on the attributes of what they hold for, as a condition may depend on another attribute.
 */
const STAND_IN = String.raw`
module: configuration:
with builtins;
let
  lib = builtins // rec {
    nameValuePair = name: value: { inherit name value; };
    genAttrs = names: f: listToAttrs (map (name: nameValuePair name (f name)) names);
    mapAttrsToList = f: set: map (name: f name (getAttr name set)) (attrNames set);
    mapAttrs' = f: set: listToAttrs (mapAttrsToList f set);
    filterAttrs = f: set: removeAttrs set (filter (name: !f name (getAttr name set)) (attrNames set));
    optional = condition: value: optionals condition [ value ];
    optionals = condition: list: if condition then list else [ ];
    optionalAttrs = condition: set: if condition then set else { };
    optionalString = condition: text: if condition then text else "";
    unique = foldl' (list: value: if elem value list then list else list ++ [ value ]) [ ];
    concatMapStringsSep = separator: f: list: concatStringsSep separator (map f list);
    splitString = character: text: filter isString (split ("[" + character + "]") text);
    dropEnd = count: text: substring 0 (stringLength text - count) text;
    hasPrefix = start: text: substring 0 (stringLength start) text == start;
    hasSuffix = end: text: stringLength end <= stringLength text && dropEnd (stringLength end) text + end == text;
    hasInfix = part: text: replaceStrings [ part ] [ "" ] text != text;
    removePrefix = start: text: if hasPrefix start text then substring (stringLength start) (-1) text else text;
    removeSuffix = end: text: if hasSuffix end text then dropEnd (stringLength end) text else text;

    mkIf = condition: content: { _type = "if"; inherit condition content; };
    mkMerge = contents: { _type = "merge"; inherit contents; };
    mkOption = option: option // { _type = "option"; };
    mkEnableOption = name: mkOption { type = types.bool; default = false; description = "Whether to enable " + name; };
    literalExpression = text: { _type = "literalExpression"; inherit text; };
    literalMD = text: { _type = "literalMD"; inherit text; };
    types = rec {
      bool = { check = isBool; merge = only; };
      str = { check = isString; merge = only; };
      path = { check = value: isPath value || value ? outPath || isString value && hasPrefix "/" value; merge = only; };
      anything = { check = _: true; merge = only; };
      nullOr = type: type // { check = value: value == null || type.check value; };
      listOf = type: { check = isList; merge = lists: map (value: mergeAs type [ value ]) (concatLists lists); };
      attrsOf = type: { check = isAttrs; merge = zipAttrsWith (_: mergeAs type); };
    };
  };

  only = values: if length values == 1 then head values else throw "This is defined twice";
  mergeAs = type: definitions:
    let values = concatMap hold definitions;
    in if all type.check values then type.merge values else throw "This is of another type";
  hold = value:
    if value._type or "" == "if" then lib.optionals value.condition (hold value.content)
    else if value._type or "" == "merge" then concatMap hold value.contents
    else [ value ];
  push = value:
    if value._type or "" == "if" then map (mapAttrs (_: lib.mkIf value.condition)) (push value.content)
    else if value._type or "" == "merge" then concatMap push value.contents
    else [ value ];
  evaluate = options: definitions:
    let
      sets = concatMap push definitions;
      unknown = attrNames (removeAttrs (foldl' (a: b: a // b) { } sets) (attrNames options));
      value = name: option:
        let
          here = catAttrs name sets;
          held = concatMap hold here;
        in
        if option._type or "" != "option" then evaluate option here
        else if held == [ ] then option.default or (throw ("Nothing defines " + name))
        else mergeAs option.type held;
    in
    if unknown == [ ] then mapAttrs value options else throw ("There are no options " + toString unknown);

  files = lib.mkOption { type = lib.types.attrsOf (lib.types.attrsOf lib.types.anything); default = { }; };
  homeManager = with lib; {
    assertions = mkOption { type = types.listOf types.anything; default = [ ]; };
    home.file = files;
    home.homeDirectory = mkOption { type = types.path; default = "/home/me"; };
    home.sessionVariables = mkOption { type = types.attrsOf types.anything; default = { }; };
    xdg.configFile = files;
    xdg.configHome = mkOption { type = types.path; default = "/home/me/.config"; };
  };
  made = import module { inherit config lib; pkgs = { }; };
  config = evaluate (homeManager // made.options) [ made.config configuration ];

  shown = mapAttrs (_: file: file // { source = toString file.source; });
in
{
  home = lib.mapAttrs' (name: lib.nameValuePair (lib.removePrefix "/home/me/" name)) (shown config.home.file);
  xdg = shown config.xdg.configFile;
  names = attrNames config.home.file;
}
`;

/** Evaluates an attribute of what {@linkcode STAND_IN} gives for a configuration, touching nothing but the sandbox. */
async function evaluate(sandbox: Sandbox, attribute: string, configuration: string): Promise<Result> {
  sandbox.write("stand-in.nix", STAND_IN);
  const module = JSON.stringify(`${folder}/ai-skills.nix`);
  const expression = `(import ./stand-in.nix ${module} { ${configuration} })${attribute}`;
  const args = ["--store", "dummy://", "--eval", "--strict", "--json", "--expr", expression];
  return await sandbox.nix("nix-instantiate", ...args);
}

/** What is linked in the home, and what in the configuration directory, by path. */
async function links(sandbox: Sandbox, configuration: string): Promise<{ home: unknown; xdg: unknown }> {
  const { status, stdout, stderr } = await evaluate(sandbox, "", configuration);
  assertEquals(status, 0, stderr);
  const { home, xdg } = JSON.parse(stdout);
  return { home, xdg };
}

/** That it already fails when somebody asks for the names of the links. */
async function assertFails(sandbox: Sandbox, configuration: string, message: string): Promise<void> {
  const { status, stderr } = await evaluate(sandbox, ".names", configuration);
  assertNotEquals(status, 0, configuration);
  assertStringIncludes(stderr, `services.ai-skills${message}\n`);
}

/** A sandbox whose `skills/` has two skills and some things that are none. */
function sandboxWithSkills(): Sandbox {
  const sandbox = new Sandbox();
  sandbox.skills("hq", "oncall", "Shouted", "extra/house-style", "extra/hq");
  sandbox.directory("skills/draft");
  sandbox.write("skills/notes", "Not a folder\n");
  return sandbox;
}

/** A configuration that is enabled, with the skills of the sandbox; the rest is in `services.ai-skills`. */
function enabled(rest: string): string {
  return `services.ai-skills = { enable = true; src = ./skills; ${rest} };`;
}

describe("ai-skills.nix", () => {
  const itWithNix = requires("nix");

  itWithNix("links each skill for Claude Code, OpenCode and Codex, as one directory", async () => {
    using sandbox = sandboxWithSkills();
    const [hq, oncall] = [{ source: sandbox.at("skills/hq") }, { source: sandbox.at("skills/oncall") }];
    assertEquals(await links(sandbox, enabled(`skills = [ "hq" "oncall" ];`)), {
      home: {
        ".claude/skills/hq": hq,
        ".claude/skills/oncall": oncall,
        ".codex/skills/hq": hq,
        ".codex/skills/oncall": oncall,
      },
      xdg: { "opencode/skills/hq": hq, "opencode/skills/oncall": oncall },
    });
  });

  itWithNix("does nothing unless it is enabled, whatever else is set", async () => {
    using sandbox = sandboxWithSkills();
    const nothing = { home: {}, xdg: {} };
    assertEquals(await links(sandbox, ""), nothing);
    assertEquals(await links(sandbox, `services.ai-skills.skills = [ "nosuch" ];`), nothing);
    assertEquals(await links(sandbox, enabled("")), nothing);
  });

  itWithNix("takes skills from its own folder by default", async () => {
    using sandbox = new Sandbox();
    const source = `${folder}/review-gate`;
    assertEquals(await links(sandbox, `services.ai-skills = { enable = true; skills = [ "review-gate" ]; };`), {
      home: { ".claude/skills/review-gate": { source }, ".codex/skills/review-gate": { source } },
      xdg: { "opencode/skills/review-gate": { source } },
    });
  });

  itWithNix("takes a source that is text, or an input of a flake", async () => {
    using sandbox = sandboxWithSkills();
    const source = sandbox.at("skills/hq");
    for (const src of [`"${sandbox.at("skills")}"`, `{ outPath = "${sandbox.repo}"; } + "/skills"`]) {
      const { xdg } = await links(sandbox, `services.ai-skills = { enable = true; src = ${src}; skills = [ "hq" ]; };`);
      assertEquals(xdg, { "opencode/skills/hq": { source } }, src);
    }
  });

  itWithNix("gives Codex other skills than the rest, or none", async () => {
    using sandbox = sandboxWithSkills();
    const [hq, oncall] = [{ source: sandbox.at("skills/hq") }, { source: sandbox.at("skills/oncall") }];
    assertEquals(await links(sandbox, enabled(`skills = [ "hq" ]; codexSkills = [ "oncall" ];`)), {
      home: { ".claude/skills/hq": hq, ".codex/skills/oncall": oncall },
      xdg: { "opencode/skills/hq": hq },
    });
    assertEquals(await links(sandbox, enabled(`skills = [ "hq" ]; codexSkills = [ ];`)), {
      home: { ".claude/skills/hq": hq },
      xdg: { "opencode/skills/hq": hq },
    });
  });

  itWithNix("links extra skills for all three, in place of those of the same name", async () => {
    using sandbox = sandboxWithSkills();
    const [hq, style] = [{ source: sandbox.at("extra/hq") }, { source: sandbox.at("extra/house-style") }];
    const extra = `extraSkills = { hq = ./extra/hq; house-style = "${sandbox.at("extra/house-style")}"; };`;
    assertEquals(await links(sandbox, enabled(`skills = [ "hq" ]; codexSkills = [ ]; ${extra}`)), {
      home: {
        ".claude/skills/hq": hq,
        ".claude/skills/house-style": style,
        ".codex/skills/hq": hq,
        ".codex/skills/house-style": style,
      },
      xdg: { "opencode/skills/hq": hq, "opencode/skills/house-style": style },
    });
  });

  itWithNix("links into CODEX_HOME, however the home is spelled in it", async () => {
    using sandbox = sandboxWithSkills();
    const spellings: [value: string, directory: string][] = [
      [`"/home/me/.config/codex"`, ".config/codex"],
      [`/home/me/codex`, "codex"],
      [`"$HOME/a/codex/"`, "a/codex"],
      [`"\${HOME}/codex"`, "codex"],
      [`"~/codex"`, "codex"],
      [`"$XDG_CONFIG_HOME/codex"`, ".settings/codex"],
      [`"\${XDG_CONFIG_HOME}/codex"`, ".settings/codex"],
      [`""`, ".codex"],
      ["null", ".codex"],
    ];
    for (const [value, directory] of spellings) {
      const variable = `home.sessionVariables.CODEX_HOME = ${value.replace("${", "\\${")};`;
      const rest = `${variable} xdg.configHome = "/home/me/.settings";`;
      const { home } = await links(sandbox, `${enabled(`codexSkills = [ "hq" ];`)} ${rest}`);
      assertEquals(home, { [`${directory}/skills/hq`]: { source: sandbox.at("skills/hq") } }, value);
    }
  });

  itWithNix("links into CLAUDE_CONFIG_DIR", async () => {
    using sandbox = sandboxWithSkills();
    const variable = `home.sessionVariables.CLAUDE_CONFIG_DIR = "$HOME/claude";`;
    const { home } = await links(sandbox, `${enabled(`skills = [ "hq" ]; codexSkills = [ ];`)} ${variable}`);
    assertEquals(home, { "claude/skills/hq": { source: sandbox.at("skills/hq") } });
  });

  itWithNix("refuses a CODEX_HOME that is not known to be in the home, when there is something to link", async () => {
    using sandbox = sandboxWithSkills();
    for (const value of ["/var/lib/codex", "/home/melissa/codex", "$HOME/../codex", "codex", "$HOME/$X", "$HOME"]) {
      const variable = `home.sessionVariables.CODEX_HOME = "${value}";`;
      const message = `: cannot link skills: CODEX_HOME is "${value}", which is no directory inside /home/me`;
      await assertFails(sandbox, `${enabled(`codexSkills = [ "hq" ];`)} ${variable}`, message);
      await links(sandbox, `${enabled(`skills = [ "hq" ]; codexSkills = [ ];`)} ${variable}`);
    }
  });

  itWithNix("refuses a name that is no skill's, and lists those that are", async () => {
    using sandbox = sandboxWithSkills();
    const message = (name: string) => `: there is no skill "${name}" in ${sandbox.at("skills")}; there are: hq, oncall`;
    for (const name of ["nosuch", "draft", "notes", "Shouted", "../extra/hq", "hq/", ".", "", "a".repeat(65)]) {
      await assertFails(sandbox, enabled(`skills = [ "hq" "${name}" ];`), `.skills${message(name)}`);
    }
    const others = `skills = [ "hq" ]; codexSkills = [ "nosuch" ];`;
    await assertFails(sandbox, enabled(others), `.codexSkills${message("nosuch")}`);
    sandbox.remove("skills");
    sandbox.directory("skills");
    const none = `.skills: there is no skill "hq" in ${sandbox.at("skills")}; there are: none`;
    await assertFails(sandbox, enabled(`skills = [ "hq" ];`), none);
  });

  itWithNix("refuses an extra skill without a SKILL.md, or whose name cannot be one", async () => {
    using sandbox = sandboxWithSkills();
    const without = `.extraSkills: "mine" is no skill: there is no SKILL.md in ${sandbox.at("skills/draft")}`;
    await assertFails(sandbox, enabled(`extraSkills.mine = ./skills/draft;`), without);
    for (const name of ["../hq", "a--b", "-a", "a_b", "Hq", "a".repeat(65)]) {
      const illegal = `.extraSkills: "${name}" is no name for a skill: 1-64 lowercase letters, digits, single hyphens`;
      await assertFails(sandbox, enabled(`extraSkills."${name}" = ./extra/hq;`), illegal);
    }
  });
});
