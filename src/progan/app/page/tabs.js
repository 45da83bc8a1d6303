/** Tabs: a row of buttons, each with its panel, one of which is shown. */

import { button, element } from "./dom.js";

/**
 * @typedef {object} Panel
 * @property {() => unknown} show Called whenever the panel is shown.
 * @property {() => void} [hide] Called when another one is.
 */

/**
 * Makes the tabs work; the panel NAME has the id NAME, and its tab is `tab-NAME`.
 * @param {Record<string, Panel>} panels
 * @param {() => void} selected Called after another panel was selected.
 */
export function tabs(panels, selected) {
  const names = Object.keys(panels);
  const tabs = {
    /**
     * Brings a panel to the front, without telling it.
     * @param {string} name
     */
    select(name) {
      for (const each of names) {
        const tab = button(`tab-${each}`), chosen = each === name;
        tab.setAttribute("aria-selected", String(chosen));
        tab.tabIndex = chosen ? 0 : -1;
        element(each, HTMLElement).hidden = !chosen;
        if (chosen) tab.scrollIntoView({ block: "nearest", inline: "center" });
        else panels[each].hide?.();
      }
      selected();
    },

    /** @param {string} name */
    show(name) {
      tabs.select(name);
      panels[name].show();
    },

    current: () => names.find((name) => !element(name, HTMLElement).hidden) ?? names[0],
  };
  names.forEach((name, i) => {
    const tab = button(`tab-${name}`);
    tab.addEventListener("click", () => tabs.show(name));
    tab.addEventListener("keydown", ({ key }) => {
      const to = { ArrowRight: i + 1, ArrowLeft: i - 1, Home: 0, End: names.length - 1 }[key];
      if (to === undefined) return;
      const next = names[(to + names.length) % names.length];
      tabs.show(next);
      button(`tab-${next}`).focus();
    });
  });
  return tabs;
}
