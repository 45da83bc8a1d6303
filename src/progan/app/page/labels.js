/** Selects for the class, or for each attribute. */

import { make } from "./dom.js";

/**
 * @typedef {import("./engine.js").Labels} Labels
 *
 * @typedef {object} LabelSelects
 * @property {string[]} titles `Class`, or the names of the attributes as words.
 * @property {HTMLSelectElement[]} selects One for each title.
 * @property {() => string} value The label that is chosen; empty for none.
 * @property {(label: string) => void} show Shows a label as chosen.
 */

/**
 * @param {Labels | null} labels Without any there are no selects.
 * @param {string | null} none Words for the choice of no label; null where one must be chosen.
 * @param {() => void} changed
 * @returns {LabelSelects}
 */
export function labelSelects(labels, none, changed) {
  /** @type {Map<string, {value: string, text: string}[]>} */
  const groups = new Map();
  for (const name of labels?.names ?? []) {
    const [attribute, value] = labels?.kind === "class" ? ["Class", name] : name.split(/=(.*)/s);
    groups.set(attribute, [...(groups.get(attribute) ?? []), { value: name, text: value ?? "yes" }]);
  }
  const first = none === null ? [] : [{ value: "", text: none }];
  const selects = [...groups.values()].map((choices) => {
    const options = [...first, ...choices].map(({ value, text }) => make("option", { value, textContent: text }));
    return make("select", {}, options);
  });
  for (const select of selects) select.addEventListener("change", changed);
  return {
    titles: [...groups.keys()].map((name) => name.charAt(0).toUpperCase() + name.slice(1).replaceAll("_", " ")),
    selects,
    value: () => selects.map((select) => select.value).filter(Boolean).join(","),
    show(label) {
      const parts = labels?.kind === "class" ? [label] : label.split(",");
      for (const select of selects) {
        select.value = [...select.options].find(({ value }) => value && parts.includes(value))?.value ?? select.options[0].value;
      }
    },
  };
}
