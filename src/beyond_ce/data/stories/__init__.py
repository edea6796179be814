"""Generated children's stories: names, words, plots, and the data set made of them."""
