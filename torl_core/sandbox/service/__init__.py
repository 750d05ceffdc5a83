"""The sandbox over HTTP: the service (`app`), SandboxFusion's messages (`wire`), the client (`client`)."""
