/** Which paths a person has to see before they are merged, and which raise no alarm. */
import { assertEquals } from "jsr:@std/assert@^1";
import { describe, it } from "jsr:@std/testing@^1/bdd";
import { inBox } from "./worker_box.ts";

const GUARDED = `src/auth/login.ts lib/authorize.py app/authentication.rb src/oauth.go session.ts src/sessions/store.ts
jwt.ts src/csrf.js rbac.yaml permissions.py src/security/headers.ts password.ts reset_password.py secrets.yaml
client-secret.json credentials.json token.ts access_token.py refresh-token.ts api_tokens.py .env .env.local .npmrc
.netrc server.pem tls/server.key id_rsa id_ed25519.pub crypto.rs cipher.c encrypt.ts verify_signature.py signature.ts
certificate.ts .github/workflows/ci.yml .gitlab-ci.yml .ci/run .circleci/config.yml Jenkinsfile .travis.yml
azure-pipelines.yml .gitmodules .gitattributes .husky/pre-commit .pre-commit-config.yaml .githooks/pre-push .mcp.json
.claude/settings.json .claude/settings.local.json .claude/hooks/run.sh .codex/config.toml opencode.json
.opencode/plugin/x.js .envrc .skills .skills.lock AGENTS.md CLAUDE.md CODEOWNERS skills/hq/SKILL.md
skills/review-gate/SKILL.md main.tf modules/net/vars.tfvars iam.yaml aws/iam_policy.json roles-iam.json
main.tf.json useAuth.ts authn.go UserSession.java src/client_secret.ts secretAccessKey.ts .worktreeinclude`.split(
  /\s+/,
);

const FREE = `tokenizer.ts src/tokenize.rs tokens.css design/tokens.json signature_pad.ts id_map.py id_generator.ts
author.ts authors.md src/author_list.py README.md src/index.ts package-lock.json docs/keys.md keyboard.ts monkey.key.md
src/environment.ts env.ts possession.ts obsession.md assessment.py secretary.md secretion.py authentic.md william_notes.md
siam_x.py miami-team.json diamond.ts`.split(/\s+/);

describe("a checkpoint", () => {
  it(
    "is raised by paths that matter for security, and not by similar names",
    inBox(async (box) => {
      await box.git("config", "worker.humanLines", "10000");
      await box.spawnTask("free");
      await box.commit("free", Object.fromEntries(FREE.map((path) => [path, "1\n"])));
      assertEquals((await box.do("submit free")).data.checkpoints, []);
      await box.spawnTask("guarded");
      await box.commit("guarded", Object.fromEntries(GUARDED.map((path) => [path, "1\n"])));
      const missed: string[] = [];
      const { globToRegExp } = await import("../skills/hq/scripts/worker.ts");
      const source = Deno.readTextFileSync(new URL("../skills/hq/scripts/worker.ts", import.meta.url));
      const [, table = ""] = /^const HUMAN_PATHS[^=]*= \[\n([^]*?)\n\];/m.exec(source) ?? [];
      const patterns = [...table.matchAll(/"([^"]+)"/g)].map(([, glob = ""]) => globToRegExp(glob));
      for (const path of GUARDED) if (!patterns.some((pattern) => pattern.test(`${path}/`))) missed.push(path);
      assertEquals(missed, []);
      assertEquals((await box.do("submit guarded")).state, "needs_human");
    }),
  );

  it(
    "is raised by a link in place of a directory with guarded files, and not by one elsewhere",
    inBox(async (box) => {
      await box.spawnTask("free");
      box.link(box.tree("free", "docs"), "elsewhere");
      await box.commit("free", {});
      assertEquals((await box.do("submit free")).state, "submitted");
      await box.spawnTask("guarded");
      for (const path of [".claude", "sub/.codex", ".opencode", "skills"]) box.link(box.tree("guarded", path), "docs");
      await box.commit("guarded", {});
      const { data } = await box.do("submit guarded");
      assertEquals(data.checkpoints, [{ kind: "paths", detail: ".claude, .opencode, skills, sub/.codex" }]);
    }),
  );

  it(
    "is raised by the scripts of a package.json, and not by its dependencies",
    inBox(async (box) => {
      const text = (scripts: object, version: string) => JSON.stringify({ scripts, dependencies: { a: version } });
      await box.commit(box.repo, { "web/package.json": text({ test: "run" }, "1") });
      await box.spawnTask("dependencies");
      await box.commit("dependencies", { "web/package.json": text({ test: "run" }, "2") });
      assertEquals((await box.do("submit dependencies")).state, "submitted");
      await box.spawnTask("scripts");
      await box.commit("scripts", { "web/package.json": text({ test: "run", postinstall: "curl" }, "1") });
      const { state, data } = await box.do("submit scripts");
      assertEquals([state, data.checkpoints], [
        "needs_human",
        [{ kind: "paths", detail: "the scripts in web/package.json" }],
      ]);
    }),
  );
});
