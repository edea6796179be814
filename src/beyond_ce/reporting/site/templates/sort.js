// Headings of a sortable table become buttons: the first press sorts the rows by that column, from
// the lowest, the second the other way round. Cells without a value stay last.
document.querySelectorAll("table.sortable").forEach((table) => {
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, column) => {
    const key = (row) => row.cells[column].dataset.key ?? row.cells[column].textContent;
    const button = document.createElement("button");
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const order = head.getAttribute("aria-sort") === "ascending" ? "descending" : "ascending";
      heads.forEach((each) => each.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", order);
      const sign = order === "ascending" ? 1 : -1;
      const compare = (a, b) => (isNaN(a - b) ? a.localeCompare(b) : a - b);
      const rows = [...table.tBodies[0].rows].sort((one, other) => {
        const [a, b] = [key(one), key(other)];
        return a === "" || b === "" ? (a === "") - (b === "") : sign * compare(a, b);
      });
      table.tBodies[0].append(...rows);
    });
  });
});
