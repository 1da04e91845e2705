__distribution__ = "quadrat"
