// Shows only the groups of the tenant that is chosen in the same form.

// Each select with all of its options, as the server sent them.
const all = new Map();
for (const select of document.querySelectorAll("[data-narrowed-by]")) all.set(select, [...select.options]);

function narrow(chooser) {
  const wanted = chooser.value;
  for (const [select, options] of all) {
    if (chooser !== select.form.elements[select.dataset.narrowedBy]) continue;
    const chosen = select.value;
    const shown = options.filter(({ dataset, value }) => !value || !wanted || dataset.tenant === wanted);
    select.replaceChildren(...shown);
    select.value = shown.some(({ value }) => value === chosen) ? chosen : "";
  }
}

// Before htmx asks with what is chosen.
document.addEventListener("change", (event) => narrow(event.target), true);

for (const select of all.keys()) {
  const chooser = select.form.elements[select.dataset.narrowedBy];
  const chosen = select.selectedOptions[0];
  // An address may name a group of another tenant, which stays visible beside its error.
  if (chooser?.value && (!chosen?.value || chosen.dataset.tenant === chooser.value)) narrow(chooser);
}
