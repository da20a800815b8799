"""Report of runs and benchmarks as one HTML page, with its figures and tables as files.

In the order in which data flow:

subjects     what the arguments of the command name: runs, folders and results of a benchmark
results      results of a benchmark that may come from anyone, checked
curves       losses and validation results from the log of a run
recall       recall with intervals, and consistency of ranks across languages
measurements what needs a model: worst queries, similarities, map, alignments
tsne         the map of vectors in two dimensions
quality      quality of the translations
thumbnails   small copies of images, made by the decoder processes
svg, charts  figures
tables       tables in HTML, CSV and LaTeX
blocks       what parts of the page consist of
looks        the parts that look into a model
sections     the other parts, and all in their order
page         the page
write        all of it: read, measure, write
"""
