"""The chip index: what every chip holds, found in one pass, so that one can choose without reading.

Import from the modules; ``training`` names what users need.
"""
