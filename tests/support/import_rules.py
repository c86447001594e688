"""The import rule that import-linter lacks: an allow-list. What it does not name may not be imported.

A rule that lists what is forbidden says nothing of what comes later; this one says what may be imported and
refuses the rest, direct imports under `TYPE_CHECKING` included.
"""

from __future__ import annotations

import sys

from grimp import ImportGraph
from importlinter import Contract, ContractCheck, fields, output


class AllowedImports(Contract):  # type: ignore[misc] - the library is not typed
    """Each of `importers` imports itself, what is below `allowed`, and third parties as `external` says.

    `external` names top-level packages; left out, every third party is allowed, as the standard library is.
    """

    type_name = "allowed_imports"

    importers = fields.ListField(subfield=fields.StringField())
    allowed = fields.ListField(subfield=fields.StringField(), required=False)
    external = fields.ListField(subfield=fields.StringField(), required=False)

    def check(self, graph: ImportGraph, verbose: bool) -> ContractCheck:
        """Every direct import of every module below the importers, against the lists."""
        roots = {name.partition(".")[0] for name in self.session_options["root_packages"]}
        broken = []
        for importer in self.importers:
            if importer not in graph.modules:
                raise ValueError(f"there is no package {importer}")
            for module in sorted({importer, *graph.find_descendants(importer)}):
                for imported in sorted(graph.find_modules_directly_imported_by(module)):
                    if not self._is_allowed(importer, imported, roots):
                        (first, *_) = graph.get_import_details(importer=module, imported=imported)
                        broken.append((module, imported, first["line_number"]))
        return ContractCheck(kept=not broken, metadata={"broken": broken})

    def _is_allowed(self, importer: str, imported: str, roots: set[str]) -> bool:
        top = imported.partition(".")[0]
        if top in roots:
            return any(_is_below(imported, name) for name in (importer, *(self.allowed or ())))
        return self.external is None or top in sys.stdlib_module_names or top in self.external

    def render_broken_contract(self, check: ContractCheck) -> None:
        """One line for each import that the lists do not name."""
        for module, imported, line in check.metadata["broken"]:
            output.print_error(
                f"{module} imports {imported} (line {line}), which its allow-list does not name"
            )


def _is_below(module: str, package: str) -> bool:
    return module == package or module.startswith(package + ".")
