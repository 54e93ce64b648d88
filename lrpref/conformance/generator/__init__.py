"""The generator of the test vectors: Appendix 10.A of Montavon et al. 2019, by enumeration, in exact numbers.

It shares no line with the rest of lrpref: it imports neither rules nor layers, engine or kernels, and it does
not compute with matrices. For every upper neuron k it walks over the lower neurons j in its reach and adds up
the contributions z_jk, as the formulas are written.

- `numbers`: fractions, and fractions with a bound on what a floating-point format may differ by;
- `geometry`: which lower neurons an upper neuron reaches, and through which weight;
- `formulas`: the rules, neuron by neuron;
- `conventions`: what other libraries mean by a rule of the same name;
- `network`: the way forward and the way back through a network, and its books;
- `case`, `parts`: a vector before it is computed, of rules and layers;
- `files`: vectors as JSON;
- `cases`: the vectors, family by family.
"""
