"""The data plane: InvokeEndpoint, InvokeEndpointWithResponseStream and InvokeEndpointAsync."""
