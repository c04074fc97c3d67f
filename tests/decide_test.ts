/** Tests of the decision about a name in a target, as a table. */
import { assertEquals } from "jsr:@std/assert@^1";
import { describe, it } from "jsr:@std/testing@^1/bdd";
import { type Action, decide, type Desired, type Situation } from "../use-skills.ts";

const me = "../../.skills";
const desired: Desired = { name: "hq", line: 1, reference: "hq", source: "/repo/skills/hq" };
const LINK = { target: "../../skills/hq" };
const OLD = { target: "../../old/hq" };
const COPY = { target: "../../skills/hq", copy: "a1" };
const NEW = { target: "../../skills/hq", copy: "b2" };

/** A link with a text; `isDesired` if it leads to the desired skill. */
function link(text: string, isDesired = false): Situation["actual"] {
  return { kind: "link", text, isDesired };
}

function directory(hash?: string): Situation["actual"] {
  return { kind: "directory", hash };
}

const mine = { for: [me] };
const theirs = { for: ["/other/.skills"] };
const both = { for: [me, "/other/.skills"] };
const dead = { for: ["/dead/.skills"] };

const wants = (form: Situation["form"]) => ({ desired, form });

const rows: [behaviour: string, kind: Action["kind"], situation: Partial<Situation>, next?: Action["next"]][] = [
  ["links where nothing is", "link", wants(LINK), { ...LINK, ...mine }],
  ["copies where nothing is", "copy", wants(COPY), { ...COPY, ...mine }],
  [
    "does nothing about an owned link that is as desired",
    "ok",
    { ...wants(LINK), owned: { ...LINK, ...mine }, actual: link(LINK.target, true) },
    { ...LINK, ...mine },
  ],
  [
    "does nothing about an owned copy that is as desired",
    "ok",
    { ...wants(COPY), owned: { ...COPY, ...mine }, actual: directory("a1") },
    { ...COPY, ...mine },
  ],
  [
    "adopts a link that leads to the desired skill",
    "adopt",
    { ...wants(LINK), actual: link("/abs/hq", true) },
    { target: "/abs/hq", ...mine },
  ],
  [
    "relinks an owned link",
    "relink",
    { ...wants(LINK), owned: { ...OLD, ...mine }, actual: link(OLD.target) },
    { ...LINK, ...mine },
  ],
  [
    "relinks what a killed run was replacing",
    "relink",
    { ...wants({ target: "third" }), owned: { ...LINK, was: [OLD], ...mine }, actual: link(OLD.target) },
    { target: "third", ...mine },
  ],
  [
    "copies a changed skill again",
    "recopy",
    { ...wants(NEW), owned: { ...COPY, ...mine }, actual: directory("a1") },
    { ...NEW, ...mine },
  ],
  ["replaces an owned copy by a link", "relink", {
    ...wants(LINK),
    owned: { ...COPY, ...mine },
    actual: directory("a1"),
  }],
  [
    "replaces an owned link by a copy",
    "recopy",
    { ...wants(COPY), owned: { ...LINK, ...mine }, actual: link(LINK.target, true) },
  ],
  ["keeps a link that isn't owned", "conflict", { ...wants(LINK), actual: link(OLD.target) }],
  ["keeps an owned link that was changed", "conflict", {
    ...wants(LINK),
    owned: { ...LINK, ...mine },
    actual: link("x"),
  }],
  ["keeps a file", "conflict", { ...wants(LINK), actual: { kind: "file" } }],
  ["keeps a directory", "conflict", { ...wants(COPY), actual: directory() }],
  [
    "keeps an edited copy, and its record",
    "conflict",
    { ...wants(COPY), owned: { ...COPY, ...mine }, actual: directory("edited") },
    { ...COPY, ...mine },
  ],
  ["prunes what is no longer desired", "prune", { owned: { ...LINK, ...mine }, actual: link(LINK.target) }],
  ["prunes a copy that is no longer desired", "prune", { owned: { ...COPY, ...mine }, actual: directory("a1") }],
  ["prunes what only deleted projects want", "prune", { owned: { ...LINK, ...dead }, actual: link(LINK.target) }],
  [
    "keeps what another project wants, too",
    "ok",
    { owned: { ...LINK, ...both }, actual: link(LINK.target) },
    { ...LINK, ...theirs },
  ],
  [
    "reports another project's name as a conflict",
    "conflict",
    { ...wants(LINK), owned: { ...OLD, ...theirs }, actual: link(OLD.target) },
    { ...OLD, ...theirs },
  ],
  [
    "takes over a name of a deleted project",
    "relink",
    { ...wants(LINK), owned: { ...OLD, ...dead }, actual: link(OLD.target) },
    { ...LINK, ...mine },
  ],
  [
    "shares what another project wants, too",
    "adopt",
    { ...wants(LINK), owned: { ...LINK, ...theirs }, actual: link(LINK.target, true) },
    { ...LINK, ...both },
  ],
  [
    "keeps what a failed entry may mean",
    "keep",
    { isKept: true, owned: { ...LINK, ...mine }, actual: link(LINK.target) },
    { ...LINK, ...mine },
  ],
  ["releases what a person replaced", "release", { owned: { ...LINK, ...mine }, actual: directory() }],
  ["releases an edited copy that is no longer desired", "release", {
    owned: { ...COPY, ...mine },
    actual: directory("edited"),
  }],
  ["forgets what is gone", "ok", { owned: { ...LINK, ...mine } }],
  ["ignores what is neither desired nor owned", "keep", { actual: directory() }],
];

describe("decide()", () => {
  for (const [behaviour, kind, situation, next] of rows) {
    it(behaviour, () => {
      const isAlive = (owner: string) => !owner.startsWith("/dead");
      const whole = { name: "hq", actual: { kind: "nothing" as const }, isKept: false, owner: me, isAlive };
      const action = decide({ ...whole, ...situation });
      assertEquals(action.kind, kind);
      if (next) assertEquals(JSON.parse(JSON.stringify(action.next)), next);
    });
  }
});
