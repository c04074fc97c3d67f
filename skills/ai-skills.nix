# A home-manager module that gives Claude Code, OpenCode and Codex their skills at home, from one setting. Each skill is
# one link to its folder, in a folder that stays the person's own: other skills can lie beside it.
{ config, lib, ... }:

let
  cfg = config.services.ai-skills;
  home = config.home.homeDirectory;

  # The rule of the Agent Skills specification. It also keeps paths such as `../x` from being names.
  isName =
    name: lib.stringLength name <= 64 && builtins.match "[a-z0-9]+(-[a-z0-9]+)*" name != null;
  isSkill = directory: builtins.pathExists (directory + "/SKILL.md");
  isFound = name: isName name && isSkill (cfg.src + "/${name}");

  # This and `extra` throw as soon as it is asked which links there are: a skill that is missing stops everything.
  found =
    name:
    let
      # By default `codexSkills` repeats `skills`, so what is wrong in both was written in `skills`.
      option = if lib.elem name cfg.skills then "skills" else "codexSkills";
      all = lib.filter isFound (lib.attrNames (builtins.readDir cfg.src));
      list = if all == [ ] then "none" else lib.concatStringsSep ", " all;
    in
    if isFound name then
      name
    else
      throw "services.ai-skills.${option}: there is no skill \"${name}\" in ${toString cfg.src}; there are: ${list}";
  extra = lib.mapAttrs' (
    name: path:
    if !isName name then
      throw "services.ai-skills.extraSkills: \"${name}\" is no name for a skill: 1-64 lowercase letters, digits, single hyphens"
    else if !isSkill path then
      throw "services.ai-skills.extraSkills: \"${name}\" is no skill: there is no SKILL.md in ${toString path}"
    else
      lib.nameValuePair name path
  ) cfg.extraSkills;

  links =
    directory: names:
    lib.mapAttrs' (name: source: lib.nameValuePair "${directory}/${name}" { inherit source; }) (
      lib.genAttrs (map found names) (name: cfg.src + "/${name}") // extra
    );

  # Where an agent's files are, relative to the home. A session variable is text for a shell, in which the home has
  # several spellings.
  folderOf =
    variable: default:
    let
      value = toString (config.home.sessionVariables.${variable} or null);
      first = lib.head (lib.splitString "/" value);
      meaning = {
        "~" = home;
        "$HOME" = home;
        "\${HOME}" = home;
        "$XDG_CONFIG_HOME" = config.xdg.configHome;
        "\${XDG_CONFIG_HOME}" = config.xdg.configHome;
      };
      path = lib.removeSuffix "/" "${meaning.${first} or first}${lib.removePrefix first value}";
      isPlain = !lib.hasInfix "$" path && !lib.hasInfix "/../" "${path}/";
    in
    if value == "" then
      default
    else if isPlain && lib.hasPrefix "${home}/" path then
      lib.removePrefix "${home}/" path
    else
      throw "services.ai-skills: cannot link skills: ${variable} is \"${value}\", which is no directory inside ${home}";
in
{
  options.services.ai-skills = {
    enable = lib.mkEnableOption "skills for Claude Code, OpenCode and Codex";

    src = lib.mkOption {
      type = lib.types.path;
      default = ./.;
      defaultText = lib.literalMD "the folder that this module is in";
      example = lib.literalExpression ''inputs.use-skills + "/skills"'';
      description = ''
        Skills are taken from this folder by name. A skill is a folder in it that holds a {file}`SKILL.md`.
      '';
    };

    skills = lib.mkOption {
      type = lib.types.listOf lib.types.str;
      default = [ ];
      example = [ "review-gate" ];
      description = ''
        Claude Code and OpenCode get the skills of these names from {option}`services.ai-skills.src`. A name that is
        not there fails the evaluation. Claude Code's are linked into {file}`~/.claude/skills`, or, where
        {option}`home.sessionVariables` sets {env}`CLAUDE_CONFIG_DIR`, into {file}`$CLAUDE_CONFIG_DIR/skills`, which
        must then be inside the home.
      '';
    };

    codexSkills = lib.mkOption {
      type = lib.types.listOf lib.types.str;
      default = cfg.skills;
      defaultText = lib.literalExpression "config.services.ai-skills.skills";
      example = [ ];
      description = ''
        Codex gets the skills of these names from {option}`services.ai-skills.src`. They are linked into
        {file}`~/.codex/skills`, or, where {option}`home.sessionVariables` sets {env}`CODEX_HOME`, into
        {file}`$CODEX_HOME/skills`, which must then be inside the home.
      '';
    };

    extraSkills = lib.mkOption {
      type = lib.types.attrsOf lib.types.path;
      default = { };
      example = lib.literalExpression "{ house-style = ./skills/house-style; }";
      description = ''
        All three agents get these skills too. Each name has a folder that holds a {file}`SKILL.md`, and wins over a
        skill of the same name in {option}`services.ai-skills.src`.
      '';
    };
  };

  config = lib.mkIf cfg.enable {
    home.file =
      links "${folderOf "CLAUDE_CONFIG_DIR" ".claude"}/skills" cfg.skills
      // links "${folderOf "CODEX_HOME" ".codex"}/skills" cfg.codexSkills;
    xdg.configFile = links "opencode/skills" cfg.skills;
  };
}
