"""The tool `ask` for programs that speak the Model Context Protocol (MCP): over stdio, or over HTTP by the service."""
