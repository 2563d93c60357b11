"""Short texts in other languages, for documents that do not belong where they stand."""

from __future__ import annotations

TEXTS: dict[str, tuple[str, ...]] = {
    "de": (
        "Am Morgen öffnete die Bäckerin ihren Laden und stellte frische Brötchen ins Fenster.",
        "Der alte Fluss führte in diesem Jahr weniger Wasser als sonst.",
        "Niemand wusste, warum die Glocke in der Nacht geläutet hatte.",
        "Im Herbst sammeln die Kinder Kastanien und bauen daraus kleine Tiere.",
        "Mein Großvater erzählte gern von seiner Zeit auf dem Schiff.",
        "Wir haben den Schlüssel überall gesucht, aber nicht gefunden.",
        "Die Straßenbahn kam zu spät, und alle mussten im Regen warten.",
    ),
    "fr": (
        "Le matin, le facteur déposait les lettres devant la porte bleue.",
        "Personne ne savait pourquoi la vieille horloge s'était arrêtée.",
        "Les enfants ramassaient des coquillages au bord de la mer.",
        "Ma grand-mère préparait une soupe aux légumes pour toute la famille.",
        "Il a plu pendant trois jours et le chemin est devenu impraticable.",
        "Nous avons cherché la clé partout sans jamais la retrouver.",
        "Le marché ouvre à sept heures et ferme au début de l'après-midi.",
    ),
    "tr": (
        "Sabahleyin çarşıdaki fırından sıcak ekmek kokusu geliyordu.",
        "Çocuklar okuldan sonra parkta top oynamayı çok seviyorlar.",
        "Dedem eski günleri anlatırken hep gülümserdi.",
        "Yağmur üç gün boyunca hiç durmadan yağdı.",
        "Köprünün altından geçen nehir bu yıl çok alçaldı.",
        "Anahtarı her yerde aradık ama bir türlü bulamadık.",
        "Akşam olunca bütün aile büyük masanın etrafında toplanır.",
    ),
    "es": (
        "Por la mañana el panadero abría la tienda y saludaba a los vecinos.",
        "Nadie sabía por qué la campana había sonado durante la noche.",
        "Los niños recogían castañas en el parque cerca de la escuela.",
        "Mi abuela preparaba una sopa caliente para toda la familia.",
        "Llovió tres días seguidos y el camino quedó cubierto de barro.",
        "Buscamos la llave por todas partes, pero no la encontramos.",
        "El mercado abre a las siete y cierra a primera hora de la tarde.",
    ),
    "pl": (
        "Rano piekarz otwierał sklep i układał świeże bułki na półkach.",
        "Nikt nie wiedział, dlaczego w nocy zadzwonił stary dzwon.",
        "Dzieci zbierały kasztany w parku niedaleko szkoły.",
        "Moja babcia gotowała gorącą zupę dla całej rodziny.",
        "Deszcz padał przez trzy dni i droga zamieniła się w błoto.",
        "Szukaliśmy klucza wszędzie, ale nigdzie go nie było.",
        "Targ otwierają o siódmej, a zamykają wczesnym popołudniem.",
    ),
    "it": (
        "La mattina il fornaio apriva il negozio e salutava i vicini di casa.",
        "Nessuno sapeva perché la campana avesse suonato durante la notte.",
        "I bambini raccoglievano le castagne nel parco vicino alla scuola.",
        "Mia nonna preparava una zuppa calda per tutta la famiglia.",
        "Piovve per tre giorni e la strada si riempì di fango.",
        "Abbiamo cercato la chiave dappertutto senza trovarla.",
        "Il mercato apre alle sette e chiude nel primo pomeriggio.",
    ),
}
