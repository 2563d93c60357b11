# ruff: noqa: E501 (tables: one row, one line)
"""The words that the world draws from. What is listed is raw stuff; the seed decides what is true."""

from __future__ import annotations

MEN = [
    "Антон",
    "Борис",
    "Виктор",
    "Глеб",
    "Денис",
    "Егор",
    "Захар",
    "Иван",
    "Кирилл",
    "Леонид",
    "Максим",
    "Олег",
    "Павел",
    "Роман",
    "Степан",
    "Тимур",
    "Фёдор",
    "Эдуард",
    "Юрий",
    "Ярослав",
    "Артём",
    "Богдан",
    "Вадим",
    "Дмитрий",
    "Евгений",
    "Игорь",
    "Константин",
    "Матвей",
    "Назар",
    "Прохор",
    "Руслан",
    "Семён",
    "Тарас",
    "Филипп",
    "Эльдар",
    "Яков",
    "Аркадий",
    "Григорий",
    "Марк",
    "Пётр",
    "Андрей",
    "Сергей",
    "Николай",
    "Михаил",
    "Владимир",
    "Алексей",
    "Георгий",
    "Тихон",
    "Савелий",
    "Емельян",
    "Демид",
    "Мирон",
    "Анатолий",
    "Василий",
    "Геннадий",
    "Родион",
    "Ефим",
]
WOMEN = [
    "Анна",
    "Белла",
    "Вера",
    "Галина",
    "Дарья",
    "Елена",
    "Жанна",
    "Зоя",
    "Инна",
    "Клавдия",
    "Лариса",
    "Марина",
    "Нина",
    "Оксана",
    "Полина",
    "Раиса",
    "Светлана",
    "Тамара",
    "Ульяна",
    "Фаина",
    "Юлия",
    "Яна",
    "Алина",
    "Валентина",
    "Вероника",
    "Диана",
    "Ева",
    "Зинаида",
    "Ирина",
    "Карина",
    "Лидия",
    "Мария",
    "Надежда",
    "Ольга",
    "Регина",
    "Татьяна",
    "Эльвира",
    "Алла",
    "Анастасия",
    "Екатерина",
    "Кристина",
    "Людмила",
    "Маргарита",
    "Наталья",
    "Римма",
    "Снежана",
    "Милана",
    "Василиса",
    "Варвара",
    "Агата",
    "Антонина",
    "Евдокия",
    "Таисия",
    "Эмма",
    "Нонна",
    "Серафима",
    "Лилия",
]
COUNTRIES = [
    "Лавония",
    "Тиреция",
    "Сольмия",
    "Каренция",
    "Вестория",
    "Норталия",
    "Беландия",
    "Остролия",
    "Грандия",
    "Мирания",
    "Дуверия",
    "Елития",
    "Зорвия",
    "Индрия",
    "Кельтория",
    "Лимбория",
    "Мальвия",
    "Невадия",
    "Ортания",
    "Палесия",
    "Ральдия",
    "Савония",
    "Тавридия",
    "Урмалия",
    "Фалькония",
    "Хельмия",
    "Цетрия",
    "Шантория",
    "Эльдория",
    "Юнтария",
]
CITIES = [
    "Лосинск",
    "Ветроград",
    "Кленбург",
    "Старополь",
    "Рудинск",
    "Белополь",
    "Каменград",
    "Озёрск",
    "Мельбург",
    "Дубинск",
    "Морград",
    "Липополь",
    "Соколинск",
    "Рысинск",
    "Альтбург",
    "Зорград",
    "Тихополь",
    "Бобринск",
    "Ландбург",
    "Снежград",
    "Медополь",
    "Хвойнск",
    "Ольбург",
    "Солград",
    "Речинск",
    "Ивбург",
    "Далград",
    "Полынск",
    "Хельбург",
    "Чернополь",
    "Родниковск",
    "Маргград",
    "Певчинск",
    "Стальбург",
    "Ясноград",
    "Громск",
    "Янтарьград",
    "Бармск",
    "Эльбург",
    "Тёплоград",
    "Грачинск",
    "Норбург",
    "Звонград",
    "Ореховск",
    "Дальбург",
    "Лугополь",
    "Ежинск",
    "Остбург",
    "Маяград",
    "Судополь",
    "Искринск",
    "Розенбург",
    "Пеплоград",
    "Вишнёвск",
    "Тальбург",
    "Нежинград",
    "Крабинск",
    "Штольбург",
    "Сельград",
    "Подгорск",
    "Вельбург",
    "Жемград",
    "Лунинск",
    "Ильбург",
    "Колосград",
    "Яблоневск",
    "Фельбург",
    "Борград",
    "Селезнинск",
    "Гамбинск",
]
RIVERS = [
    "Морина",
    "Тарва",
    "Сивера",
    "Кодола",
    "Лужина",
    "Верва",
    "Истра",
    "Шемра",
    "Пельва",
    "Омула",
    "Кальна",
    "Вигра",
    "Сунжва",
    "Тольма",
    "Дремла",
    "Ровна",
    "Ильмара",
    "Звана",
    "Ухра",
    "Чапла",
    "Ольва",
    "Награ",
    "Теремла",
    "Южна",
    "Полва",
    "Кемра",
    "Сорана",
    "Мокла",
    "Вильна",
    "Дарва",
    "Хопра",
    "Лебедна",
    "Унгра",
    "Снева",
    "Барла",
    "Этрана",
    "Рошва",
    "Туломра",
    "Грамла",
    "Ведра",
    "Шунома",
    "Кильва",
]

# Russian, English. Professions with their tool.
PROFESSIONS = """врач doctor градусник thermometer
повар cook сковорода pan
учитель teacher мел chalk
плотник carpenter рубанок plane
портной tailor игла needle
маляр painter кисть brush
дворник janitor метла broom
садовник gardener лейка watering_can
рыбак fisherman сеть net
кузнец blacksmith молот hammer
парикмахер barber расчёска comb
фотограф photographer камера camera
скрипач violinist смычок bow
астроном astronomer телескоп telescope
биолог biologist микроскоп microscope
почтальон postman сумка bag
пасечник beekeeper улей hive
лесоруб lumberjack топор axe
сапожник shoemaker шило awl
тракторист tractor_driver трактор tractor
библиотекарь librarian каталог catalogue
пекарь baker скалка rolling_pin
моряк sailor компас compass
судья judge закон law"""

PETS = (
    "кот cat;собака dog;попугай parrot;кролик rabbit;черепаха turtle;хомяк hamster;коза goat;канарейка canary;"
    "лошадь horse;ёжик hedgehog;утка duck;белка squirrel"
)
CURRENCIES = (
    "крона crown;динар dinar;талер thaler;дукат ducat;рупия rupee;лира lira;гульден guilder;флорин florin;"
    "марка mark;гинея guinea;драхма drachma;шиллинг shilling"
)
SIGHTS = "мост bridge;музей museum;театр theatre;фонтан fountain;собор cathedral;рынок market;маяк lighthouse;дворец palace;парк park"
FESTIVALS = (
    "хлеб bread;мёд honey;море sea;снег snow;песня song;река river;музыка music;книга book;яблоко apple;молоко milk;"
    "тыква pumpkin;солнце sun;ветер wind;рыба fish;лес forest;цветок flower;чай tea;сыр cheese;вода water;огонь fire;"
    "звезда star;дерево tree;шёлк silk;картофель potato;лодка boat;театр theatre;камень stone;птица bird;корабль ship;"
    "дорога road;свеча candle;гора mountain;дождь rain;гриб mushroom;лошадь horse;вишня cherry;колокол bell;дом house;"
    "зерно grain;трава grass;орех nut;груша pear;слива plum;малина raspberry;лёд ice;луна moon;облако cloud;"
    "радуга rainbow;мост bridge;мельница mill;корова cow;коза goat;пчела bee;утка duck;гусь goose;лиса fox;"
    "барабан drum;скрипка violin;кукла doll;шляпа hat;зонт umbrella;ковёр carpet;зеркало mirror;игла needle;"
    "нитка thread;капуста cabbage;морковь carrot;репа turnip;горох peas;пирог pie;каша porridge;соль salt"
)

MONTHS = (
    "январь January;февраль February;март March;апрель April;май May;июнь June;июль July;август August;"
    "сентябрь September;октябрь October;ноябрь November;декабрь December"
)
SEASONS = "зима winter;весна spring;лето summer;осень autumn"
# bigger unit, its English name and plural, how many, smaller unit, English plural
UNITS = """час hour 60 минута minutes
неделя week 7 день days
команда team 11 игрок players
набор set 6 ложка spoons
сантиметр centimetre 10 миллиметр millimetres
дюжина dozen 12 штука pieces
рубль rouble 100 копейка kopecks"""

# category: Russian singular, English singular; members Russian, English
CATEGORIES = {
    "фрукт fruit": "яблоко apple;груша pear;слива plum;лимон lemon;апельсин orange;банан banana;персик peach;абрикос apricot;"
    "гранат pomegranate;ананас pineapple",
    "овощ vegetable": "морковь carrot;капуста cabbage;огурец cucumber;помидор tomato;тыква pumpkin;свёкла beet;редис radish;"
    "баклажан eggplant;чеснок garlic;репа turnip",
    "зверь beast": "волк wolf;лиса fox;медведь bear;заяц hare;олень deer;тигр tiger;лев lion;барсук badger;слон elephant;"
    "обезьяна monkey",
    "птица bird": "ворона crow;воробей sparrow;сова owl;орёл eagle;голубь pigeon;лебедь swan;журавль crane;аист stork;"
    "ласточка swallow;соловей nightingale",
    "дерево tree": "дуб oak;берёза birch;сосна pine;клён maple;ель spruce;липа linden;осина aspen;ива willow;ясень ash;"
    "тополь poplar",
    "инструмент tool": "молоток hammer;пила saw;лопата shovel;топор axe;игла needle;ножницы scissors;отвёртка screwdriver;"
    "кисть brush;вилы pitchfork;метла broom",
    "мебель furniture": "стол table;стул chair;шкаф wardrobe;диван sofa;кровать bed;полка shelf;кресло armchair;комод dresser;"
    "табуретка stool;скамья bench",
    "одежда clothing": "рубашка shirt;пальто coat;юбка skirt;платье dress;шапка hat;куртка jacket;свитер sweater;"
    "перчатка glove;шарф scarf;пиджак blazer",
    "посуда tableware": "тарелка plate;чашка cup;ложка spoon;вилка fork;кастрюля pot;стакан glass;блюдце saucer;миска bowl;"
    "кувшин jug;чайник kettle",
    "транспорт transport": "поезд train;автобус bus;самолёт plane;корабль ship;трамвай tram;велосипед bicycle;лодка boat;"
    "грузовик truck;вертолёт helicopter;телега cart",
}

ANTONYMS = """горячий hot холодный cold
большой big маленький small
высокий tall низкий low
быстрый fast медленный slow
старый old молодой young
сильный strong слабый weak
богатый rich бедный poor
светлый light тёмный dark
широкий wide узкий narrow
длинный long короткий short
чистый clean грязный dirty
сухой dry мокрый wet
тихий quiet громкий loud
добрый kind злой evil
весёлый merry грустный sad
умный clever глупый stupid
толстый thick тонкий thin
твёрдый hard мягкий soft
полный full пустой empty
лёгкий easy трудный difficult
смелый brave трусливый cowardly
глубокий deep мелкий shallow
острый sharp тупой blunt
сладкий sweet горький bitter
редкий rare частый frequent
дорогой dear дешёвый cheap
правый right левый left
далёкий far близкий near
ранний early поздний late
щедрый generous жадный greedy
гладкий smooth шершавый rough
новый new древний ancient
прямой straight кривой crooked
живой alive мёртвый dead
верхний upper нижний lower
здоровый healthy больной sick
вежливый polite грубый rude
ленивый lazy трудолюбивый diligent
свежий fresh чёрствый stale
знакомый familiar чужой strange"""

# Nouns for case forms: everyday things that have all forms in both numbers.
GRAMMAR_NOUNS = [
    "книга",
    "стол",
    "окно",
    "дом",
    "река",
    "дорога",
    "письмо",
    "яблоко",
    "сумка",
    "ключ",
    "город",
    "ложка",
    "зеркало",
    "камень",
    "лампа",
    "ручка",
    "карта",
    "билет",
    "мост",
    "картина",
    "озеро",
    "лодка",
    "шапка",
    "корзина",
    "газета",
    "тетрадь",
    "дверь",
    "кровать",
    "площадь",
    "словарь",
    "рубль",
    "медведь",
    "голубь",
    "ведро",
    "колесо",
    "кресло",
    "поле",
    "облако",
    "конверт",
    "мешок",
    "замок",
    "платок",
    "подарок",
    "цветок",
    "огурец",
    "палец",
    "корабль",
    "учебник",
    "журнал",
    "автобус",
    "трамвай",
    "рыба",
    "звезда",
    "птица",
    "гора",
    "школа",
    "улица",
    "комната",
    "банка",
    "чашка",
]

# What befell a person: effect and three causes; masculine|feminine verb, ~ stands for he or she.
PERSON_EVENTS = """опоздал|опоздала на работу/was late for work: проспал|проспала/~ overslept; сломался автобус/the bus broke down; потерял|потеряла ключи/~ lost the keys
промок|промокла до нитки/got soaking wet: забыл|забыла зонт/~ forgot the umbrella; упал|упала в реку/~ fell into the river; лопнула труба/a pipe burst
купил|купила новую обувь/bought new shoes: порвались старые ботинки/the old boots tore; начались скидки/a sale began; выросла нога/the feet grew
позвонил|позвонила мастеру/called a repairman: потекла крыша/the roof leaked; погас свет/the light went out; заело замок/the lock jammed
не спал|спала всю ночь/did not sleep all night: лаяла собака/a dog barked; болел зуб/a tooth ached; шумели соседи/the neighbours were noisy
получил|получила награду/got an award: спас|спасла ребёнка/~ saved a child; выиграл|выиграла забег/~ won the race; написал|написала роман/~ wrote a novel
заболел|заболела в начале недели/fell ill early in the week: выпил|выпила ледяной воды/~ drank ice water; гулял|гуляла без шапки/~ walked without a hat; съел|съела старую рыбу/~ ate old fish
остался|осталась дома/stayed at home: началась метель/a blizzard began; пришли гости/guests came; объявили выходной/a day off was declared
заплатил|заплатила штраф/paid a fine: потерял|потеряла билет/~ lost the ticket; разбил|разбила витрину/~ broke a shop window; громко пел|пела ночью/~ sang loudly at night
улыбнулся|улыбнулась прохожему/smiled at a passer-by: вспомнил|вспомнила шутку/~ remembered a joke; увидел|увидела радугу/~ saw a rainbow; узнал|узнала друга/~ recognised a friend"""
COMMON_CAUSES = """растаял снег/the snow melted: пришла весна/spring came
завяли цветы/the flowers withered: их не поливали/nobody watered them
погас костёр/the campfire went out: пошёл сильный дождь/heavy rain began
разбилась ваза/the vase broke: её уронили на пол/it was dropped on the floor
скисло молоко/the milk went sour: его забыли в тепле/it was left in the warm
замёрзло озеро/the lake froze: ударили холода/the cold set in
сгорел суп/the soup burned: кастрюлю забыли на плите/the pot was left on the stove
остановились часы/the clock stopped: их не завели/nobody wound it
сел телефон/the phone died: его не зарядили/it was not charged
проснулся ребёнок/the child woke up: хлопнула дверь/a door slammed
намокло бельё/the washing got wet: его не сняли до дождя/it was left out in the rain
улетел воздушный шар/the balloon flew away: отпустили нитку/the string was let go
заржавел гвоздь/the nail rusted: он лежал в воде/it lay in water
потолстел кот/the cat grew fat: его кормили пять раз в день/it was fed five times a day
запотели очки/the glasses fogged up: в комнате было жарко/the room was hot
треснул лёд/the ice cracked: на него встал лось/an elk stepped on it
покраснели щёки/the cheeks turned red: на улице был мороз/it was frosty outside
залаяла собака/the dog barked: в калитку постучали/someone knocked at the gate
выросли грибы/mushrooms grew: прошли тёплые дожди/warm rains fell
лопнула шина/the tyre burst: на дороге лежал гвоздь/a nail lay on the road
выцвела занавеска/the curtain faded: на неё светило солнце/the sun shone on it
упало яблоко/the apple fell: ветер качнул ветку/the wind shook the branch
закипела вода/the water boiled: чайник стоял на огне/the kettle stood on the fire
пересох ручей/the brook dried up: всё лето стояла жара/it was hot all summer
скрипит дверь/the door creaks: петли давно не мазали/the hinges were not oiled
сломался стул/the chair broke: на нём качались дети/children rocked on it
потемнела ложка/the spoon went dark: её долго не чистили/nobody polished it
стихла музыка/the music stopped: кончился концерт/the concert ended
спрятались мыши/the mice hid: пришла кошка/the cat came
прилетели пчёлы/bees came flying: зацвела липа/the linden blossomed
побелели крыши/the roofs turned white: ночью шёл снег/it snowed at night
осела пыль/the dust settled: улицу полили водой/the street was watered
сдулся мяч/the ball went flat: его прокололи/it was punctured
порвался пакет/the bag tore: в него положили кирпичи/bricks were put into it
опустел перрон/the platform emptied: поезд уехал/the train left
засмеялись зрители/the audience laughed: клоун упал/the clown fell
растаяло мороженое/the ice cream melted: его оставили на солнце/it was left in the sun
затупился нож/the knife went blunt: им резали камень/it was used on stone
загорелась бумага/the paper caught fire: на неё упала искра/a spark fell on it
похудел медведь/the bear grew thin: он спал всю зиму/it slept all winter"""

# comparative and its opposite, the same in English
COMPARISONS = """старше моложе older younger
выше ниже taller shorter
сильнее слабее stronger weaker
быстрее медленнее faster slower
богаче беднее richer poorer"""


def pairs(text: str) -> list[tuple[str, str]]:
    """`"кот cat;собака dog"` as [(кот, cat), (собака, dog)]; `_` in English stands for a space."""
    found = [item.strip().split(" ", 1) for item in text.split(";")]
    return [(russian, english.replace("_", " ")) for russian, english in found]


def rows(text: str) -> list[list[str]]:
    """One list of words per line; `_` stands for a space."""
    return [[word.replace("_", " ") for word in line.split()] for line in text.splitlines()]


def events(text: str) -> list[tuple[tuple[str, str], list[tuple[str, str]]]]:
    """Lines `effect/effect in English: cause/cause in English; ...` as ((ru, en), [(ru, en), ...])."""
    found = []
    for line in text.splitlines():
        effect, _, causes = line.partition(": ")
        found.append((_two(effect), [_two(cause) for cause in causes.split("; ")]))
    return found


def _two(text: str) -> tuple[str, str]:
    russian, _, english = text.partition("/")
    return russian, english
