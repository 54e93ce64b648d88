"""How other libraries compare: adapters that run the same network in them."""
