/** What only the page of a server has: a training as it comes, comparisons, data, a search; and the choice of a run. */

import { element, make } from "../dom.js";
import { documentPanel } from "./documents.js";
import { findPanel } from "./find.js";
import { trainingPanel } from "./training.js";

/**
 * @typedef {import("../engine.js").Facts} Facts
 * @typedef {import("../tabs.js").Panel} Panel
 *
 * @typedef {object} Given What panels are made with.
 * @property {Facts} facts
 * @property {import("../engine.js").Server} server
 * @property {(text: string, stays?: boolean) => void} say
 */

/**
 * Adds the panels to the page.
 * @param {Facts} facts
 * @param {(text: string, stays?: boolean) => void} say
 * @returns {Record<string, Panel>}
 */
export function panels(facts, say) {
  const server = /** @type {NonNullable<Facts["server"]>} */ (facts.server), given = { facts, server, say };
  document.head.append(make("link", { rel: "stylesheet", href: "server/style.css" }));
  chooseRun(server);
  if (server.unread.length > 0) document.querySelector("main")?.prepend(make("p", { className: "hint unread", textContent: server.unread.join(" ") }));
  if (!server.run) return { training: named("training", "Start", welcome(server)) };
  /** @type {Record<string, Panel>} */
  const all = {};
  if (server.training) {
    all.training = trainingPanel(given, add("training", "Training"));
    if (server.comparisons) all.compare = documentPanel(given, add("compare", "Compare"), "compare");
  }
  if (server.data) all.data = documentPanel(given, add("data", "Data"), "data");
  if (facts.models.length > 0) all.find = findPanel(given, add("find", "Find"));
  for (const [name, panel] of Object.entries(all)) {
    const { show } = panel;
    panel.show = () => {
      history.replaceState(null, "", `#${name}`);
      return show();
    };
  }
  return all;
}

/**
 * Adds a tab and its panel, empty.
 * @param {string} name
 * @param {string} title
 */
function add(name, title) {
  const tab = make("button", { id: `tab-${name}`, type: "button", tabIndex: -1, textContent: title });
  for (const [key, value] of [["role", "tab"], ["aria-controls", name], ["aria-selected", "false"]]) tab.setAttribute(key, value);
  document.querySelector('[role="tablist"]')?.append(tab);
  const panel = make("section", { id: name, className: "single", hidden: true });
  panel.setAttribute("role", "tabpanel");
  panel.setAttribute("aria-labelledby", `tab-${name}`);
  document.querySelector("main")?.append(panel);
  return panel;
}

/**
 * A panel with some content that does not change.
 * @param {string} name
 * @param {string} title
 * @param {Node[]} content
 * @returns {Panel}
 */
function named(name, title, content) {
  add(name, title).append(...content);
  return { show: () => {} };
}

/**
 * What stands where there is no run yet.
 * @param {import("../engine.js").Server} server
 */
function welcome(server) {
  const command = (/** @type {string} */ text) => make("pre", {}, [make("code", { textContent: text })]);
  return [
    make("h2", { textContent: "There is no run here yet" }),
    make("p", {}, ["Runs are looked for in ", make("code", { textContent: server.folder }), ". Train one: the first takes half an hour or more on a CPU, and draws faces."]),
    command("progan train"),
    make("p", { textContent: "Or with pictures of your own:" }),
    command("progan train quickstart --data my-pictures/ --out runs/mine"),
    make("p", { textContent: "Then reload this page: it follows the training while it goes on." }),
  ];
}

/** @param {import("../engine.js").Server} server */
function chooseRun(server) {
  if (server.runs.length < 2) return;
  const select = element("run", HTMLSelectElement);
  for (const { name, live } of server.runs) {
    select.append(make("option", { value: name, textContent: live ? `● ${name}` : name, selected: name === server.run }));
  }
  element("run-row", HTMLLabelElement).hidden = false;
  select.addEventListener("change", () => {
    const tab = document.querySelector('[role="tab"][aria-selected="true"]')?.id.replace("tab-", "") ?? "";
    const hash = ["training", "compare", "data", "find"].includes(tab) ? `#${tab}` : "";
    location.assign(`./?${new URLSearchParams({ run: select.value })}${hash}`);
  });
}
