// MLflow's clients print links to pages of its own interface. They name the page in the fragment, which no server gets to see.
const led = [
  [/^#\/experiments\/[^/?]+\/runs\/([^/?]+)/, (run) => `/runs/${run}`],
  [/^#\/experiments\/([^/?]+)/, (experiment) => `/?experiment=${experiment}`],
  [/^#\/models\/([^/?]+)/, (model) => `/models/${model}`],
  [/^#\/models\/?$/, () => "/models"],
];
const lead = () => {
  for (const [shape, place] of led) {
    const found = location.hash.match(shape);
    if (found) return location.replace(place(found[1]));
  }
};
addEventListener("hashchange", lead);
lead();
