// Draws every chart of a page from the specification that lies in it.
document.querySelectorAll("script[data-chart]").forEach((script) => {
  const place = document.getElementById(script.dataset.chart);
  const options = { actions: false, renderer: "svg" };
  vegaEmbed(place, JSON.parse(script.textContent), options).then(
    () => place.setAttribute("data-drawn", "yes"),
    (error) => console.error(error),
  );
});
