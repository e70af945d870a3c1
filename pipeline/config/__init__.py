"""The configuration: one strict TOML file, as frozen sections. Reads no data and imports neither torch nor DALI.

Public names: `Config`, `load_config`, `parse_config`, and the sections: `Teacher`, `Student`, `Submit`, ….
"""
