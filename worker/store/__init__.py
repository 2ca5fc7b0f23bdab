"""The vector store: a Qdrant server, or the real Qdrant engine embedded in one child process.

Everything above this package speaks to `qdrant_client.QdrantClient`; what stands behind it is
decided by the target alone: an http(s) URL is a Qdrant server, anything else a folder.

    client     open_store() and Store: one client, errors mapped to the worker's own
    process    starts, finds and outlives the child that owns a folder
    files      what lies in a store's folder; file locks; atomic files
    server     the child: `python -m worker.store.server FOLDER`
    app        the subset of Qdrant's REST API that the child serves
    catalog    collections and aliases of one folder
    operations what each of its calls does
    collection one collection on one engine shard
    shard      the engine's calls, their locks, and the exchange of a shard for one with graphs
    graphs     builds search graphs on a copy of a shard
    optimize   the process that does: `python -m worker.store.optimize`
    upkeep     when graphs are built
    schema     named vectors and payload indexes
    translate  qdrant-client's requests to the engine's types
    points     the worker's points and searches as qdrant-client's models
    opening    opening one model's collection behind an alias
    searches   searches as JSON, and their hits
    answers    what the engine finds as JSON
    vectors    what a vector must be before anything stores it
"""
